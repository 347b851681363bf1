// Everything works without this file. It shows times in the viewer's zone, and keeps the overview fresh.
"use strict";

(() => {
  const language = document.documentElement.lang || undefined;
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

  function keepFresh(region) {
    const seconds = Number(region.dataset.live);
    const bar = document.createElement("div");
    const button = document.createElement("button");
    const status = document.createElement("span");
    bar.className = "live";
    button.type = "button";
    let paused = false;

    function show() {
      button.textContent = paused ? region.dataset.resume : region.dataset.pause;
      button.setAttribute("aria-pressed", String(paused));
    }

    async function refresh() {
      // A page in the background, or one in which somebody is reading with the keyboard, is left alone.
      if (paused || document.hidden || region.contains(document.activeElement)) return;
      try {
        const answer = await fetch(location.href, { headers: { "X-Requested-With": "fetch" }, redirect: "error" });
        if (!answer.ok) throw new Error(String(answer.status));
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-live]");
        if (!fresh) throw new Error("no region");
        region.replaceChildren(...fresh.childNodes);
        localTimes(region);
        status.textContent = "";
      } catch {
        status.textContent = region.dataset.stale;
      }
    }

    button.addEventListener("click", () => { paused = !paused; show(); });
    bar.append(status, button);
    document.querySelector(".head")?.append(bar);
    show();
    setInterval(refresh, seconds * 1000);
  }

  localTimes(document);
  const region = document.querySelector("[data-live]");
  if (region) keepFresh(region);

  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLElement && event.target.closest("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const box = document.getElementById("find");
      if (box) { event.preventDefault(); box.focus(); }
    }
  });
})();
