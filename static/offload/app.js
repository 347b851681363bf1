// Everything works without this file. It shows times in the viewer's zone, and keeps the overview fresh.
"use strict";

(() => {
  // The page's language, as the viewer's region writes it: en-GB and en-US write days differently. Nobody's region: ours.
  const page = document.documentElement.lang || "en";
  const regional = navigator.languages?.find((each) => each.toLowerCase().split("-")[0] === page);
  const language = regional && regional !== "en" ? regional : page === "en" ? "en-GB" : page;
  const short = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
  const exact = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });

  function localTimes(root) {
    for (const element of root.querySelectorAll("time[datetime]")) {
      const moment = new Date(element.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      element.title = exact.format(moment);
      if ("when" in element.dataset) element.textContent = short.format(moment);
    }
  }

  // Live updates (htmx asks and swaps): a switch that is remembered, and a page that is left alone while somebody types.
  function keepFresh(region) {
    const button = document.getElementById("live-switch");
    const status = document.getElementById("live-status");
    const remembered = "offload-live-paused";
    let paused = false;
    let stale = false;
    let kept = null;
    try { paused = localStorage.getItem(remembered) === "1"; } catch { /* storage is off: nothing is remembered */ }

    function show() {
      button.textContent = paused ? button.dataset.resume : button.dataset.pause;
      const words = paused ? button.dataset.paused : stale ? button.dataset.stale : "";
      if (status.textContent !== words) status.textContent = words;
    }

    const focusable = () => [...region.querySelectorAll("a[href], summary, [tabindex='0'], button")];
    const typing = () => region.contains(document.activeElement) && document.activeElement.closest("input, select, textarea");

    button.addEventListener("click", () => {
      paused = !paused;
      try { localStorage.setItem(remembered, paused ? "1" : "0"); } catch { /* as above */ }
      show();
      if (!paused) htmx.ajax("GET", location.pathname + location.search, { source: region, target: region, swap: "innerHTML" });
    });
    region.addEventListener("htmx:beforeRequest", (event) => {
      if (paused || document.hidden || typing()) event.preventDefault();
    });
    region.addEventListener("htmx:beforeSwap", (event) => {
      // Whoever is no longer logged in, or gets a page of an error, keeps what they see, and is told.
      const { xhr } = event.detail;
      stale = xhr.status !== 200 || !xhr.responseText.includes('id="health-cards"');
      if (stale) event.detail.shouldSwap = false;
      show();
      if (stale) return;
      const focus = region.contains(document.activeElement) ? document.activeElement : null;
      kept = {
        open: [...region.querySelectorAll("details[id]")].map((each) => [each.id, each.open]),
        href: focus?.getAttribute("href"),
        place: focus ? focusable().indexOf(focus) : -1,
      };
    });
    region.addEventListener("htmx:afterSwap", () => {
      if (!kept) return;
      for (const [id, open] of kept.open) {
        const each = document.getElementById(id);
        if (each) each.open = open;
      }
      if (kept.place >= 0) {
        const all = focusable();
        const same = all.find((each) => kept.href && each.getAttribute("href") === kept.href);
        (same ?? all[Math.min(kept.place, all.length - 1)])?.focus({ preventScroll: true });
      }
      kept = null;
    });
    for (const failure of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) {
      region.addEventListener(failure, () => { stale = true; show(); });
    }
    // The line of health is read aloud only when it says something new.
    document.addEventListener("htmx:oobBeforeSwap", (event) => {
      const said = (root) => root.querySelector("[data-key]")?.dataset.key;
      if (event.detail.target.id === "verdict" && said(event.detail.fragment) === said(event.detail.target)) event.detail.shouldSwap = false;
    });
    button.hidden = false;
    show();
  }

  localTimes(document);
  document.addEventListener("htmx:load", (event) => localTimes(event.detail.elt));
  const region = document.getElementById("live");
  if (region) keepFresh(region);
})();

// Technical ids: a button beside each copies it. Without this file, or without a clipboard, they can be marked by hand.
(() => {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = false;
  const said = document.createElement("span");
  said.className = "hidden";
  said.setAttribute("role", "status");
  document.body.append(said);

  document.addEventListener("click", async (event) => {
    const button = event.target instanceof HTMLElement && event.target.closest("button[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      return;
    }
    const label = button.textContent;
    button.textContent = said.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = label; said.textContent = ""; }, 2000);
  });
})();

// The list of emails: what htmx fetches for it, and what happens when that fails.
(() => {
  document.addEventListener("htmx:beforeSwap", (event) => {
    // Whoever was logged out meanwhile gets the page to log in, not a piece of it in the middle of another.
    const address = event.detail.xhr.responseURL;
    if (address && new URL(address).pathname.startsWith("/login/")) {
      event.detail.shouldSwap = false;
      location.reload();
    }
  });
  for (const failure of ["htmx:responseError", "htmx:sendError"]) {
    document.addEventListener(failure, (event) => {
      const form = event.target instanceof HTMLElement ? event.target.closest("form[data-filters]") : null;
      // The whole page says what is wrong, or that the server is away.
      if (form) form.submit();
    });
  }
})();

// Keyboard shortcuts, all of which can be switched off: people who dictate would set them off by speaking.
(() => {
  const dialog = document.getElementById("shortcuts");
  const opener = document.getElementById("shortcuts-open");
  const box = document.getElementById("shortcuts-on");
  if (!dialog || !opener || !box) return;
  const KEY = "offload-shortcuts";
  let on = true;
  try { on = localStorage.getItem(KEY) !== "off"; } catch { /* no storage: they stay on for this page */ }

  box.checked = on;
  box.addEventListener("change", () => {
    on = box.checked;
    try { localStorage.setItem(KEY, on ? "on" : "off"); } catch { /* it holds for this page */ }
  });
  opener.hidden = false;
  opener.addEventListener("click", () => dialog.showModal());

  const rows = () => [...document.querySelectorAll("main table a.subject, main .mails a.subject")];

  function move(step) {
    const links = rows();
    if (!links.length) return false;
    const at = links.indexOf(document.activeElement);
    const to = at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + step, 0), links.length - 1);
    links[to].focus();
    links[to].scrollIntoView({ block: "nearest" });
    return true;
  }

  function search() {
    const field = document.getElementById("id_q") || document.getElementById("find");
    if (!field) return false;
    field.focus();
    field.select();
    return true;
  }

  document.addEventListener("keydown", (event) => {
    if (!on || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || dialog.open) return;
    const target = event.target instanceof HTMLElement ? event.target : null;
    if (target?.closest("input, select, textarea, [contenteditable]")) return;
    let done = false;
    if (event.key === "/") done = search();
    else if (event.key === "?") { dialog.showModal(); done = true; }
    else if (event.key === "j") done = move(1);
    else if (event.key === "k") done = move(-1);
    // Arrows scroll the page until somebody is among the rows.
    else if (target?.matches("a.subject") && event.key === "ArrowDown") done = move(1);
    else if (target?.matches("a.subject") && event.key === "ArrowUp") done = move(-1);
    if (done) event.preventDefault();
  });
})();

// Languages: coming back to what the address says now, which filters may have changed since the page was made.
(() => {
  const form = document.getElementById("languages");
  form?.addEventListener("submit", () => { if (form.next.value !== "/") form.next.value = location.pathname + location.search; });
})();
