// What the page does by itself, without a round trip: language, light and dark, keys, copying, staying at the end.
(() => {
  const root = document.documentElement;
  const remember = (key, value) => { try { localStorage.setItem(`madang.${key}`, value); } catch { /* private window */ } };
  const recall = (key) => { try { return localStorage.getItem(`madang.${key}`); } catch { return null; } };
  const fixed = window.madang.language;
  const own = fixed !== "auto" ? fixed : (navigator.language || "en").toLowerCase().startsWith("ko") ? "ko" : "en";

  const speak = (language) => {
    root.dataset.language = language;
    root.lang = language;
    for (const button of document.querySelectorAll("button[data-language]")) {
      button.setAttribute("aria-pressed", String(button.dataset.language === language));
    }
  };

  const shade = (dark) => {
    document.body.classList.toggle("dark", dark);
    root.style.colorScheme = dark ? "dark" : "light";
  };

  speak(recall("language") || own);
  if (recall("shade")) {
    shade(recall("shade") === "dark");
    // Gradio follows the system's shade when it mounts; the reader's own choice stays above it.
    new MutationObserver(() => {
      const dark = recall("shade") === "dark";
      if (document.body.classList.contains("dark") !== dark) shade(dark);
    }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  }

  // The header calls this when it is there; `trigger` tells Gradio's own components about the language.
  window.madang.header = (element, trigger) => {
    speak(root.dataset.language);
    if (root.dataset.language !== own) trigger("click", { language: root.dataset.language });
    element.addEventListener("click", (event) => {
      const language = event.target.closest("button[data-language]")?.dataset.language;
      if (language) {
        remember("language", language);
        speak(language);
        trigger("click", { language });
      } else if (event.target.closest(".theme")) {
        const dark = !document.body.classList.contains("dark");
        remember("shade", dark ? "dark" : "light");
        shade(dark);
      }
    });
  };

  // Enter that ends a Hangul syllable sends nothing: Gradio listens for keypress, which composing does not raise.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelector("#stop")?.click();
  }, true);

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await copy(button.dataset.copy);
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 1200);
  });

  const copy = async (text) => {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy"); // the only way on a plain-http address in the local network
    area.remove();
  };

  // An opened prompt stays open when the next one takes its place.
  const wanted = new WeakMap();
  document.addEventListener("click", (event) => {
    const details = event.target.closest("summary")?.parentElement;
    if (details) wanted.set(details, !details.open);
  }, true);
  document.addEventListener("toggle", (event) => {
    const wish = wanted.get(event.target);
    if (wish !== undefined && event.target.open !== wish) event.target.open = wish;
  }, true);

  // A pane stays at its end while it grows, unless its reader scrolled up.
  const followed = new WeakSet();
  const follow = (box) => {
    followed.add(box);
    let atEnd = true;
    box.addEventListener("scroll", () => { atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 48; });
    new MutationObserver(() => { if (atEnd) box.scrollTop = box.scrollHeight; })
      .observe(box, { childList: true, subtree: true, characterData: true });
  };
  new MutationObserver(() => {
    for (const box of document.querySelectorAll(".pane .scroll")) if (!followed.has(box)) follow(box);
  }).observe(document.body, { childList: true, subtree: true });
})();
