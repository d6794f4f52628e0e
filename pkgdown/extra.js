/* pkgdown's search reads its index with fetch(), which browsers refuse to a page that is
   opened from a folder, and its results begin at the root of a server. Here the index is
   a script of this site's, and its results are found from where the site is. */
(function () {
  const root = new URL(".", document.currentScript.src);
  const fetch = window.fetch;

  function loadIndex() {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL("search.js", root);
      script.onload = () => resolve(window.searchIndex);
      script.onerror = reject;
      document.head.append(script);
    });
  }

  function inThisSite(entry) {
    return { ...entry, path: new URL("." + entry.path, root).href };
  }

  window.fetch = function (resource, ...others) {
    if (!String(resource).endsWith("search.json")) {
      return fetch(resource, ...others);
    }
    return loadIndex().then((index) => ({ json: () => index.map(inThisSite) }));
  };
})();

/* The copy of bootstrap-toc that pkgdown before 2.1 brings along is of an earlier
   version: it knows no classes of Bootstrap 5, by which the list gets its look. */
(function (helpers) {
  if (!helpers) {
    return;
  }
  const { createNavList, generateNavEl } = helpers;
  helpers.createNavList = () => createNavList().addClass("navbar-nav");
  helpers.generateNavEl = function (...heading) {
    const item = generateNavEl(...heading);
    item.children("a").addClass("nav-link");
    return item;
  };
})(window.Toc && window.Toc.helpers);
