"""The documents' claims, each as an experiment, in the lesson's order, and the experiments that ask why some fail."""

from minitransformer.course.lab.claim import Claim
from minitransformer.course.lab.claims import data, methods, prefixes, price, why

CLAIMS: tuple[Claim, ...] = (
    *(data.FIRST_CLAIM, data.LOW_DATA, data.LOW_DATA_NEWS, data.UNSEEN_KINDS, data.SPORT),
    *(
        prefixes.LENGTH,
        prefixes.LENGTH_BY_TASK,
        prefixes.LAYERS,
        prefixes.INFIX,
        prefixes.INIT,
        prefixes.REPARAMETRISATION,
    ),
    *(methods.SHARES, methods.COMPARED, methods.ADAPTER_TRAINING),
    *(price.ABILITIES_KEPT, price.COST),
)

# The experiments that ask why some of them fail.
WHYS: tuple[Claim, ...] = (why.UNSEEN_LONGER, why.REPARAMETRISATION_RATE, why.COMPARED_LONGER, why.ABILITIES_LONGER)
