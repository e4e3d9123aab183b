"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const find = document.getElementById("find");
  const found = document.getElementById("found");
  const articles = [...document.querySelectorAll("article")];

  const paint = (dark) => {
    root.dataset.theme = dark ? "dark" : "light";
    theme.setAttribute("aria-pressed", String(dark));
  };
  paint(matchMedia("(prefers-color-scheme: dark)").matches);
  theme.addEventListener("click", () => paint(root.dataset.theme !== "dark"));

  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const article of articles) {
      article.hidden = !words.every((word) => article.dataset.words.includes(word));
      count += !article.hidden;
    }
    found.textContent = words.length ? `${count} of ${articles.length}` : "";
  };
  find.addEventListener("input", filter);

  const visible = () => articles.filter((article) => !article.hidden);
  const go = (step) => {
    const list = visible();
    if (!list.length) return;
    const at = list.indexOf(document.activeElement.closest("article"));
    const next = at < 0 ? 0 : Math.min(list.length - 1, Math.max(0, at + step));
    list[next].focus();
    list[next].scrollIntoView({ block: "nearest" });
  };
  const play = () => {
    const article = document.activeElement.closest("article");
    const audio = article && article.querySelector("audio");
    if (audio) audio.paused ? audio.play() : audio.pause();
  };
  const keys = {
    j: () => go(1),
    k: () => go(-1),
    p: play,
    t: () => theme.click(),
    "/": () => find.focus(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target === find) { find.value = ""; filter(); find.blur(); return; }
    if (event.target === find || event.ctrlKey || event.metaKey || event.altKey) return;
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
})();
