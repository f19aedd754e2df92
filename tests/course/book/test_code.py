"""Names in code lead to where the package defines them."""

import ast

import pytest

from minitransformer.course.book import code


@pytest.fixture(scope="module")
def package():
    return code.Package()


def targets(package, text, module=None):
    linker = code.Linker(package, ast.parse(text), module)
    return {link.text: link.target.removeprefix("minitransformer.") for link in linker.links(text)}


def test_imports_names_and_methods(package):
    found = targets(
        package,
        "import torch\n"
        "from minitransformer.models import attention\n"
        "from minitransformer.tuning import PrefixTuning as P\n"
        "method = P(10).attach(base)\n"
        "method.detach()\n"
        "y = attention.attend_by_formula(q, k, v)\n"
        "torch.ones(3)\n",
    )
    assert found == {
        "attention": "models.attention",
        "PrefixTuning": "tuning.prefix.PrefixTuning",
        "P": "tuning.prefix.PrefixTuning",
        "attach": "tuning.method.Method.attach",  # inherited
        "detach": "tuning.method.Method.detach",
        "attend_by_formula": "models.attention.attend_by_formula",
    }


def test_a_module_knows_its_own_names(package):
    module = package.modules["minitransformer.models.attention"]
    assert targets(package, module.source, module.name)["split_heads"] == "models.attention.split_heads"


def test_columns_count_characters(package):
    text = 'from minitransformer.errors import UserError\n"前缀"; UserError\n'
    (_, link) = code.Linker(package, ast.parse(text)).links(text)
    assert text.split("\n")[link.line - 1][link.column :] == "UserError"


def test_highlight_escapes_and_links():
    pytest.importorskip("pygments")
    link = code.Link(1, 4, "f", "minitransformer.f")
    html = code.highlight("a < f", [link], {"minitransformer.f": "x.html#f"})
    assert '<a class="code-link" href="x.html#f" title="f">f</a>' in html
    assert "&lt;" in html


def test_pieces_are_the_whole_module(package):
    for module in package.modules.values():
        lines = module.source.split("\n")
        start = module.tree.body[0].end_lineno if ast.get_docstring(module.tree) is not None else 0
        covered = {line for _, first, last in code.pieces(module) for line in range(first, last + 1)}
        missing = [i for i, line in enumerate(lines, 1) if i > start and line.strip() and i not in covered]
        assert not missing, f"{module.name}: lines {missing} are on no page"
