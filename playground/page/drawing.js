// Draws answers: what stands there and is wanted again stays as it is, so that an answer grows, and nothing else moves.
(() => {
  const template = (html) => {
    const made = document.createElement("template");
    made.innerHTML = html;
    return made.content;
  };

  // An element that the reader has changed keeps that: an opened fold, a place that is edited.
  const kept = new Set(["open", "hidden"]);
  const dress = (old, wanted) => {
    for (const { name } of [...old.attributes]) if (!kept.has(name) && !wanted.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of wanted.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  };

  const become = (old, wanted) => {
    if (old.nodeType === Node.TEXT_NODE && wanted.nodeType === Node.TEXT_NODE) {
      if (wanted.data === old.data) return;
      if (wanted.data.startsWith(old.data)) old.appendData(wanted.data.slice(old.data.length)); // a selection in it stays
      else old.data = wanted.data;
    } else if (old.nodeType === Node.ELEMENT_NODE && old.nodeName === wanted.nodeName && !old.matches(".math")
      && old.hasAttribute("data-parts") === wanted.hasAttribute("data-parts")) {
      dress(old, wanted);
      if (!wanted.hasAttribute("data-parts")) fit(old, wanted);
    } else old.replaceWith(wanted);
  };

  const fit = (place, wanted) => {
    let old = place.firstChild;
    for (let next = wanted.firstChild; next;) {
      const after = next.nextSibling;
      if (!old) place.append(next);
      else {
        const following = old.nextSibling;
        if (!old.isEqualNode(next)) become(old, next);
        old = following;
      }
      next = after;
    }
    while (old) {
      const following = old.nextSibling;
      old.remove();
      old = following;
    }
  };

  const drawn = new WeakMap();
  const fill = (place, parts) => {
    parts.forEach((html, at) => {
      const part = place.children[at] || place.appendChild(document.createElement("div"));
      if (drawn.get(part) === html) return;
      drawn.set(part, html);
      const wanted = template(html);
      typeset(wanted);
      fit(part, wanted);
    });
    while (place.children.length > parts.length) place.lastElementChild.remove();
  };

  window.madang.draws = (element, props, watch) => {
    let around;
    const draw = () => {
      const [html, ...runs] = Array.isArray(props.value) ? props.value : [props.value || ""];
      if (html !== around) fit(element, template(html));
      around = html;
      element.querySelectorAll("[data-parts]").forEach((place, at) => fill(place, runs[at] || []));
    };
    watch("value", draw);
    draw();
  };

  // Seconds go on while nothing new is drawn, as when a model loads or a long question is read.
  const begun = new WeakMap();
  setInterval(() => {
    for (const runs of document.querySelectorAll(".runs")) {
      const known = begun.get(runs);
      if (known?.told !== runs.dataset.runs) begun.set(runs, { told: runs.dataset.runs, at: performance.now() });
      const { told, at } = begun.get(runs);
      const seconds = Number(told) + Math.floor((performance.now() - at) / 1000);
      for (const said of runs.children) {
        const text = said.textContent.replace(/\d+/, seconds);
        if (said.textContent !== text) said.textContent = text;
      }
    }
  }, 500);

  // Formulas: KaTeX comes with the page's own files, and is fetched once the first one is there.
  const { katex } = window.madang;
  const settings = { throwOnError: true, trust: false, strict: "ignore", maxSize: 20, maxExpand: 500 };
  const set = new Map();
  let tex;
  const fetchKatex = async () => {
    document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL(katex.style, document.baseURI) }));
    tex = (await import(new URL(katex.script, document.baseURI))).default;
    typeset(document);
  };

  const typeset = (root) => {
    const formulas = root.querySelectorAll(".math:not(.coming, .set)");
    if (!formulas.length || !katex) return;
    if (tex === undefined) {
      tex = null;
      fetchKatex();
    }
    if (tex) for (const place of formulas) place.replaceWith(formula(place).cloneNode(true));
  };

  const formula = (place) => {
    const displayMode = place.matches(".display");
    const key = `${displayMode} ${place.nodeName} ${place.textContent}`;
    if (!set.has(key)) {
      const made = place.cloneNode(true);
      made.classList.add("set");
      made.dataset.tex = place.textContent;
      try {
        tex.render(place.textContent, made, { ...settings, displayMode });
      } catch { /* what KaTeX does not know stays as it was written */ }
      if (set.size > 2000) set.clear();
      set.set(key, made);
    }
    return set.get(key);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy-code]");
    if (button) window.madang.copied(button, button.closest(".code").querySelector("code").textContent);
  });
})();
