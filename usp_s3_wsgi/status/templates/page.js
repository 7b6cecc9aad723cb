"use strict";
// Refreshes the page, filters buckets, and copies request ids. Without it the page is complete, and reloads itself.
(() => {
  const root = document.documentElement;
  const main = document.getElementById("main");
  const seconds = Number(root.dataset.refresh);
  root.classList.add("js");

  // A copy button. On a page without HTTPS there is no navigator.clipboard.
  document.addEventListener("click", async (event) => {
    const button = event.target instanceof Element && event.target.closest(".copy");
    if (!button) return;
    const code = button.parentElement.querySelector("code");
    let copied = false;
    try {
      await navigator.clipboard.writeText(code.textContent);
      copied = true;
    } catch {
      getSelection().selectAllChildren(code);
      copied = document.execCommand("copy");
    }
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  const filter = () => {
    const input = document.getElementById("filter");
    if (!input) return;
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const buckets = [...document.querySelectorAll(".bucket")];
    let shown = 0;
    for (const bucket of buckets) {
      const text = [...bucket.querySelectorAll(".find")].map((part) => part.textContent).join(" ").toLowerCase();
      bucket.hidden = !words.every((word) => text.includes(word));
      shown += !bucket.hidden;
    }
    document.getElementById("matches").textContent = words.length ? `${shown} of ${buckets.length}` : "";
  };
  document.addEventListener("input", (event) => { if (event.target.id === "filter") filter(); });
  addEventListener("pageshow", filter);

  if (!seconds) return;

  // Change what differs, so that focus, selection, scrolling and whatever is open stay. Elements with an id keep theirs.
  const KEPT = new Set(["open", "hidden"]);
  const update = (old, next) => {
    for (const { name } of [...old.attributes]) if (!KEPT.has(name) && !next.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of next.attributes) {
      if (!KEPT.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    if (old.id === "matches" || old.classList.contains("copy")) return;
    const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    const kept = new Set([...next.children].map((child) => child.id));
    for (const [id, child] of known) if (!kept.has(id)) child.remove();
    let at = old.firstChild;
    for (const child of [...next.childNodes]) {
      const mate = child.id ? known.get(child.id) : at && !at.id && at.nodeName === child.nodeName ? at : null;
      if (!mate) {
        old.insertBefore(document.importNode(child, true), at);
        continue;
      }
      if (mate === at) at = at.nextSibling;
      else old.insertBefore(mate, at);
      if (mate.nodeType !== Node.ELEMENT_NODE) {
        if (mate.data !== child.data) mate.data = child.data;
      } else if (!mate.isEqualNode(child)) update(mate, child);
    }
    while (at) {
      const following = at.nextSibling;
      at.remove();
      at = following;
    }
  };

  const notice = document.getElementById("notice");
  const pause = document.getElementById("pause");
  const say = (text) => {
    const line = document.getElementById("announcement");
    if (line.textContent !== text) line.textContent = text;
  };
  let paused = false, timer = 0, running = false, lastAttempt = Date.now();

  const show = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    const next = page.getElementById("main");
    const sentence = next && next.querySelector("#sentence");
    if (!sentence) throw new Error("the server sends another page");
    if (page.documentElement.dataset.build !== root.dataset.build) {
      location.reload();
      return;
    }
    const before = document.getElementById("sentence").textContent;
    const focused = document.activeElement;
    const { anchorNode, anchorOffset, focusNode, focusOffset, isCollapsed } = getSelection();
    update(main, next);
    filter();
    // An element that was moved has lost the focus, and its text the selection.
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    if (!isCollapsed && getSelection().isCollapsed && anchorNode.isConnected && focusNode.isConnected) {
      try {
        getSelection().setBaseAndExtent(anchorNode, anchorOffset, focusNode, focusOffset);
      } catch {
        // The text is shorter now.
      }
    }
    document.title = page.title;
    document.getElementById("icon").href = page.getElementById("icon").getAttribute("href");
    update(document.getElementById("updated"), page.getElementById("updated"));
    if (sentence.textContent !== before) say(sentence.textContent);
  };

  const refresh = async () => {
    if (running) return;
    running = true;
    clearTimeout(timer);
    lastAttempt = Date.now();
    const abort = new AbortController();
    const limit = setTimeout(() => abort.abort(), 15000);
    let reason = "";
    try {
      const response = await fetch(location.pathname + location.search, { cache: "no-store", signal: abort.signal });
      if (response.ok) show(await response.text());
      else reason = `the server answers with status ${response.status}`;
    } catch (error) {
      reason = error instanceof TypeError || error.name === "AbortError" ? "the server does not answer" : error.message;
    }
    clearTimeout(limit);
    notice.hidden = !reason;
    notice.textContent = reason && `Last update ${main.dataset.time}, ${reason}. Trying again every ${seconds} s.`;
    running = false;
    if (!paused) timer = setTimeout(refresh, seconds * 1000);
  };

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume" : "Pause";
    clearTimeout(timer);
    if (!paused) refresh();
  });
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden || paused) return;
    timer = setTimeout(refresh, Math.max(0, lastAttempt + seconds * 1000 - Date.now()));
  });
  timer = setTimeout(refresh, seconds * 1000);
})();
