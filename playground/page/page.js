// What the page does by itself, without a round trip: language, light and dark, keys, copying, staying at the end.
(() => {
  const root = document.documentElement;
  const remember = (key, value) => { try { localStorage.setItem(`madang.${key}`, value); } catch { /* private window */ } };
  const recall = (key) => { try { return localStorage.getItem(`madang.${key}`); } catch { return null; } };
  const fixed = window.madang.language;
  const own = fixed !== "auto" ? fixed : (navigator.language || "en").toLowerCase().startsWith("ko") ? "ko" : "en";

  // This script stands in the head: what needs the body waits for it, and so comes before the first frame.
  const embodied = (then) => {
    if (document.body) return then();
    new MutationObserver((_, watch) => { if (document.body) { watch.disconnect(); then(); } }).observe(root, { childList: true });
  };

  const speak = (language) => {
    root.dataset.language = language;
    root.lang = language;
    for (const box of document.querySelectorAll("[data-say-ko]")) {
      box.placeholder = language === "ko" ? box.dataset.sayKo : box.dataset.sayEn;
    }
    for (const button of document.querySelectorAll("button[data-language]")) {
      button.setAttribute("aria-pressed", String(button.dataset.language === language));
    }
  };

  const shade = (dark) => {
    document.body.classList.toggle("dark", dark);
    root.style.colorScheme = dark ? "dark" : "light";
  };

  speak(recall("language") || own);
  embodied(() => {
    if (recall("shade")) {
      shade(recall("shade") === "dark");
      // Gradio follows the system's shade when it mounts; the reader's own choice stays above it.
      new MutationObserver(() => {
        const dark = recall("shade") === "dark";
        if (document.body.classList.contains("dark") !== dark) shade(dark);
      }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    } else {
      const asked = new URLSearchParams(location.search).get("__theme"); // as a Space's frame says it
      shade(asked ? asked === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches);
    }
    document.body.insertAdjacentHTML("afterbegin", window.madang.shell);
    speak(root.dataset.language);
    const shell = document.querySelector("#shell");
    new MutationObserver((_, watch) => {
      if (!document.querySelector("#ask textarea")) return;
      watch.disconnect();
      const done = () => document.querySelector(".pane-head, .card") || performance.now() > late;
      const late = performance.now() + 1000;
      const look = () => {
        if (!done()) return requestAnimationFrame(look);
        shell.remove();
        if (document.activeElement === document.body) document.querySelector("#ask textarea[autofocus]")?.focus(); // it came unseen
      };
      requestAnimationFrame(look);
    }).observe(document.body, { childList: true, subtree: true });
  });

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
    if (event.key !== "Escape") return;
    if (event.target.closest?.("#settings")) showSettings(false);
    else document.querySelector("#stop")?.click();
  }, true);

  // The settings lie over the panes: open or not, the composer stays where it is.
  const showSettings = (open) => {
    const button = document.querySelector("#settings-toggle");
    root.dataset.settings = open ? "open" : "closed";
    button?.setAttribute("aria-expanded", String(open));
    if (open) document.querySelector("#settings :is(input, textarea)")?.focus({ preventScroll: true });
    else if (document.querySelector("#settings")?.contains(document.activeElement)) button?.focus();
  };
  document.addEventListener("click", (event) => {
    const open = root.dataset.settings === "open";
    if (event.target.closest("#settings-toggle")) showSettings(!open);
    else if (open && !wide.matches && event.target.isConnected && !event.target.closest("#settings, .options")) showSettings(false);
  });

  // Tab stops once at a strip of choices, at the chosen one; arrows go on inside it, and choose where it is radio buttons.
  const strips = [["[role=tablist]", "[role=tab]"], [".switch", "button"], [".examples", "button"],
    [".wrap-inner", ".token > .token-remove"], [".gradio-container fieldset, .gradio-container .block:has(> .wrap input[type=radio])", "input[type=radio]"]];
  const stops = (strip, kind) => [...strip.querySelectorAll(kind)].filter((stop) => !stop.disabled && stop.offsetParent);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Tab") {
      for (const [where, kind] of strips) for (const strip of document.querySelectorAll(where)) {
        const all = stops(strip, kind);
        const chosen = all.find((stop) => stop === document.activeElement) ?? all.find((stop) =>
          stop.checked || stop.getAttribute("aria-selected") === "true" || stop.getAttribute("aria-pressed") === "true") ?? all[0];
        for (const stop of all) stop.tabIndex = stop === chosen ? 0 : -1;
      }
    }
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const [where, kind] = (step && strips.find(([where, kind]) => event.target.matches?.(kind) && event.target.closest(where))) || [];
    const all = where ? stops(event.target.closest(where), kind) : [];
    const next = all[all.indexOf(event.target) + step];
    if (!all.length || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    next?.focus();
    if (next?.type === "radio") next.click();
  }, true);

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) window.madang.copied(button, button.dataset.copy);
  });

  window.madang.copied = async (button, text) => {
    await copy(text);
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 1200);
  };

  const copy = async (text) => {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy"); // the only way on a plain-http address in the local network
    area.remove();
  };

  // The rows of the list of variants get what the server knows of each, under the name of their base.
  window.madang.dresses = (element) => {
    const dress = () => {
      const facts = new Map([...element.querySelectorAll("[data-variant]")].map((one) => [one.dataset.variant, one]));
      let before = "";
      for (const row of document.querySelectorAll("#variants [role=option]")) {
        const fact = facts.get(row.getAttribute("aria-label"));
        const [group, said] = fact ? fact.children : [];
        const head = group && group.innerHTML !== before ? group.innerHTML : "";
        before = group?.innerHTML ?? "";
        if (row.dataset.dressed === head + (said?.innerHTML ?? "")) continue;
        row.dataset.dressed = head + (said?.innerHTML ?? "");
        for (const old of row.querySelectorAll(".group, .facts")) old.remove();
        if (said) row.append(said.cloneNode(true));
        if (head) row.append(Object.assign(group.cloneNode(true), { className: "group" }));
        row.setAttribute("aria-description", said?.innerText ?? "");
      }
    };
    const seen = new WeakSet();
    document.addEventListener("focusin", (event) => {
      const list = event.target.closest("#variants");
      if (!list || seen.has(list)) return;
      seen.add(list);
      for (const part of [list, element]) new MutationObserver(dress).observe(part, { childList: true, subtree: true, attributeFilter: ["aria-label"] });
      dress();
    });
  };

  // The list of conversations: what this tab looks at is remembered for a reload, in this tab alone.
  const tab = {
    get: (key) => { try { return sessionStorage.getItem(`madang.${key}`) || ""; } catch { return ""; } },
    set: (key, value) => { try { sessionStorage.setItem(`madang.${key}`, value); } catch { /* private window */ } },
  };
  const visitor = () => {
    const key = tab.get("visitor") || [...crypto.getRandomValues(new Uint8Array(24))].map((n) => n.toString(16).padStart(2, "0")).join("");
    tab.set("visitor", key);
    return key;
  };

  // A tab with jobs: what this browser keeps of it, and the variant for which a button has opened it.
  const kept = (name) => { try { return JSON.parse(recall(`tab.${name}`) || "{}"); } catch { return {}; } };
  const filled = {};
  window.madang.asked = {};
  window.madang.arrive = (name) => {
    const ask = window.madang.asked[name] || "";
    delete window.madang.asked[name];
    return { ...kept(name), ask };
  };
  window.madang.named = (names, values) => Object.fromEntries(names.map((name, at) => [name, values[at] ?? null]));
  window.madang.keep = (name, part) => {
    if (part.owner) filled[name] = true; // before that a field holds what the page begins with
    if (filled[name]) remember(`tab.${name}`, JSON.stringify({ ...kept(name), ...part }));
  };

  const wide = window.matchMedia("(min-width: 1200px)");
  const showList = (open) => {
    root.dataset.list = open ? "open" : "closed";
    document.querySelector("#history-toggle")?.setAttribute("aria-expanded", String(open));
  };
  showList(wide.matches && recall("list") !== "closed");
  wide.addEventListener("change", () => showList(wide.matches && recall("list") !== "closed"));
  document.addEventListener("click", (event) => {
    const open = root.dataset.list === "open";
    if (event.target.closest("#history-toggle")) {
      showList(!open);
      if (wide.matches) remember("list", open ? "closed" : "open");
      if (!open && !wide.matches) document.querySelector("#history .new")?.focus();
    } else if (open && !wide.matches && (!event.target.closest("#history") || event.target.closest(".new, .open"))) {
      showList(false);
    }
  });

  // Both halves of the list call this: its tools, which begin the session, and its rows, which come and go.
  window.madang.history = (element, trigger) => {
    const wish = (action, name = "", text = "") => trigger("click", { action, name, text, key: "" });
    const box = (button) => button.closest("[data-row]")?.querySelector("input")?.value ?? "";
    element.addEventListener("click", (event) => {
      const button = event.target.closest("[data-action]");
      if (button) wish(button.dataset.action, button.dataset.name, box(button));
      if (event.target.closest("[data-import]")) element.querySelector("input[type=file]").click();
    });
    element.addEventListener("change", async (event) => {
      const file = event.target.files?.[0];
      if (!file) return;
      const text = await file.text();
      event.target.value = "";
      wish("import", file.name, text);
    });
    let waiting = 0;
    element.addEventListener("input", (event) => {
      if (!event.target.matches(".search")) return;
      clearTimeout(waiting);
      waiting = setTimeout(() => wish("search", "", event.target.value), 150);
    });
    element.addEventListener("keydown", (event) => {
      const row = event.target.closest("[data-row]");
      if (row && event.key === "Enter" && event.target.matches("input")) row.querySelector("[data-action=rename]").click();
      if (row && event.key === "Escape" && row.querySelector("[data-action=close]")) {
        event.stopPropagation();
        row.querySelector("[data-action=close]").click();
      }
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const rows = [...element.querySelectorAll("button.open")];
      const at = rows.indexOf(event.target);
      if (step && at >= 0) {
        event.preventDefault();
        rows[Math.min(Math.max(at + step, 0), rows.length - 1)].focus();
      }
    });
    const roving = (rows, chosen) => { for (const row of rows) row.tabIndex = row === chosen ? 0 : -1; };
    element.addEventListener("focusin", (event) => {
      if (event.target.matches("button.open")) roving(element.querySelectorAll("button.open"), event.target);
    });
    new MutationObserver(() => {
      const list = element.querySelector("[data-current]");
      if (list) tab.set("chat", list.dataset.current);
      const rows = element.querySelectorAll("button.open");
      roving(rows, element.querySelector("[aria-current] button.open") || rows[0]);
      element.querySelector("[data-focus]")?.focus();
    }).observe(element, { childList: true, subtree: true, attributeFilter: ["data-current", "data-focus"] });
    if (!element.querySelector(".search")) return;
    speak(root.dataset.language);
    trigger("click", { action: "arrive", name: tab.get("chat"), text: tab.get("left"), key: visitor() });
  };

  // What is typed, and the names of questions that wait, outlive a reload of their tab.
  window.addEventListener("pagehide", () => {
    const waits = [...document.querySelectorAll("#waiting [data-name]")].map((one) => one.dataset.name);
    tab.set("left", JSON.stringify({ typed: document.querySelector("#ask textarea")?.value ?? "", waits }));
  });

  // A file that is put here goes to the reader's disk.
  window.madang.outbox = (element) => {
    let sent = "";
    new MutationObserver(() => {
      const file = element.querySelector("[data-file]");
      if (!file || file.dataset.made === sent) return;
      sent = file.dataset.made;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([file.textContent], { type: file.dataset.kind }));
      link.download = file.dataset.file;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    }).observe(element, { childList: true, subtree: true, attributeFilter: ["data-made"] }); // Gradio changes what differs

  };

  // A question or an answer is edited where it stands; what is saved is a wish of its pane.
  window.madang.edits = (element, trigger) => {
    element.addEventListener("click", (event) => {
      const button = event.target.closest("[data-edit]");
      if (!button) return;
      const turn = button.closest(".turn");
      if (turn.querySelector("form.edit")) return;
      const place = turn.querySelector(button.dataset.edit === "rewrite" ? ".answer" : ".ask");
      const text = turn.querySelector(".foot [data-copy]")?.dataset.copy;
      const form = document.querySelector("#edit-form").content.firstElementChild.cloneNode(true);
      const box = form.querySelector("textarea");
      const close = () => { form.remove(); place.hidden = false; button.focus(); };
      box.value = button.dataset.edit === "rewrite" ? text : place.textContent;
      box.rows = Math.min(12, 2 + box.value.split("\n").length);
      box.setAttribute("aria-label", button.getAttribute("aria-label"));
      place.hidden = true;
      place.after(form);
      box.focus();
      form.querySelector("[data-cancel]").addEventListener("click", close);
      const goOn = form.querySelector("[data-go-on]");
      goOn.hidden = button.dataset.edit !== "rewrite";
      goOn.addEventListener("click", () => {
        trigger("click", { action: "go_on", name: button.dataset.name, text: box.value, key: "" });
        close();
      });
      form.addEventListener("keydown", (key) => {
        key.stopPropagation();
        if (key.key === "Escape") close();
        if (key.key === "Enter" && (key.ctrlKey || key.metaKey)) form.requestSubmit();
      });
      form.addEventListener("submit", (sent) => {
        sent.preventDefault();
        trigger("click", { action: button.dataset.edit, name: button.dataset.name, text: box.value, key: "" });
        close();
      });
    });
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
  embodied(() => new MutationObserver(() => {
    for (const box of document.querySelectorAll(".pane .scroll")) if (!followed.has(box)) follow(box);
  }).observe(document.body, { childList: true, subtree: true }));
})();
