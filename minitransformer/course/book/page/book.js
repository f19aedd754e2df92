// The link to another language leads to the heading that is being read.
// Every heading has an id place-N, which is the same in every language (site.py).
"use strict";
(() => {
  const heading = () => {
    if (window.scrollY === 0) return ""; // nothing was read yet: the page itself
    const places = Array.from(document.querySelectorAll("[id^='place-']"));
    const read = places.filter((place) => place.getBoundingClientRect().top <= window.innerHeight / 3).pop();
    return !read || read === places[0] ? "" : read.id; // the first is the page's title
  };
  const lead = (event) => {
    const link = event.target instanceof Element && event.target.closest(".languages a");
    if (link) link.hash = heading();
  };
  // The address has to be right when the link is clicked, or opened in another tab from its menu.
  for (const kind of ["pointerover", "focusin", "click"]) document.addEventListener(kind, lead);
})();
