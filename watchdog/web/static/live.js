// Keeps a page up to date: asks for it again, and puts in the parts marked data-live that are no longer the same.
// Without this script everything works by reloading.
"use strict";
(() => {
  const EVERY_MS = 2500;
  const status = document.getElementById("live-status");
  const parts = () => document.querySelectorAll("[data-live]");
  const shown = new Map([...parts()].map((part) => [part.dataset.live, part.outerHTML]));
  let tag = null;
  let clockOffsetS = 0;
  let failing = 0;
  let announced = announcement(document);

  function announcement(page) {
    return [...page.querySelectorAll("[data-announce]")].map((e) => e.textContent.trim().replace(/\s+/g, " ")).join(", ");
  }

  function say(words) {
    if (status && status.textContent !== words) status.textContent = words;
  }

  function span(seconds) {
    const s = Math.abs(seconds);
    if (s < 90) return `${Math.round(s)} s`;
    if (s < 5400) return `${Math.round(s / 60)} min`;
    if (s < 129600) return `${Math.round(s / 3600)} h`;
    return `${Math.round(s / 86400)} d`;
  }

  function writeTimes() {
    const now = Date.now() / 1000 + clockOffsetS;
    for (const time of document.querySelectorAll("time[data-at]")) {
      const ahead = Number(time.dataset.at) - now;
      if (!time.title) time.title = time.textContent;
      const past = time.closest("[data-due]") ? "is due" : `${span(ahead)} ago`;
      const words = ahead > 0.5 ? `in ${span(ahead)}` : ahead > -2 ? "now" : past;
      if (time.textContent !== words) time.textContent = words;
    }
  }

  function addCopyButtons() {
    for (const box of document.querySelectorAll(".query")) {
      if (box.querySelector("button")) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quiet";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(box.querySelector("pre").textContent);
          button.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(box.querySelector("pre"));
          button.textContent = "Selected";
        }
      });
      box.append(button);
    }
  }

  function put(old, fresh) {
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const open = [...old.querySelectorAll("details[open]")].map((d) => d.dataset.key);
    old.replaceWith(fresh);
    for (const key of open) {
      const details = fresh.querySelector(`details[data-key="${CSS.escape(key)}"]`);
      if (details) details.open = true;
    }
    if (focused) fresh.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  }

  function update(text) {
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const fresh of page.querySelectorAll("[data-live]")) {
      const name = fresh.dataset.live;
      const old = document.querySelector(`[data-live="${CSS.escape(name)}"]`);
      if (!old || shown.get(name) === fresh.outerHTML || getSelection().containsNode(old, true) && !getSelection().isCollapsed) continue;
      shown.set(name, fresh.outerHTML);
      put(old, document.adoptNode(fresh));
    }
    document.title = page.title;
    const now = announcement(document);
    if (now !== announced) say(now);
    announced = now;
    writeTimes();
    addCopyButtons();
  }

  async function look() {
    if (document.hidden) return;
    try {
      const headers = tag ? { "If-None-Match": tag } : {};
      const answer = await fetch(location.href, { headers, cache: "no-store" });
      const date = Date.parse(answer.headers.get("Date") ?? "");
      if (Math.abs(date - Date.now()) > 5000) clockOffsetS = (date - Date.now()) / 1000;
      if (answer.status === 200) {
        tag = answer.headers.get("ETag");
        update(await answer.text());
      } else if (answer.status === 401) {
        say("Signed out: reload to sign in");
        return;
      } else if (answer.status !== 304) {
        throw new Error(String(answer.status));
      }
      if (failing) say("");
      failing = 0;
    } catch {
      failing += 1;
      if (failing > 1) say("The daemon does not answer; what you see may be old");
    }
  }

  writeTimes();
  addCopyButtons();
  setInterval(writeTimes, 1000);
  if (shown.size) {
    setInterval(look, EVERY_MS);
    document.addEventListener("visibilitychange", look);
  }
})();
