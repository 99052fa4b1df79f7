// What the pages do by themselves: countdowns and ages go on between two looks, commands are copied, charts are drawn, and a
// console that does not answer is said to. Everything else is done by the server and htmx.
(function () {
  "use strict";

  function words(seconds) {
    const s = Math.round(seconds);
    const two = (n) => String(n).padStart(2, "0");
    if (s < 60) return s + " s";
    if (s < 3600) return Math.floor(s / 60) + " min " + two(s % 60) + " s";
    if (s < 48 * 3600) return Math.floor(s / 3600) + " h " + two(Math.floor((s % 3600) / 60)) + " min";
    return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
  }

  // The server's clock, by what its last answer said.
  let ahead = 0;
  function setClock() {
    const live = document.getElementById("live");
    if (live && live.dataset.at) ahead = Date.parse(live.dataset.at) - Date.now();
  }

  function tick() {
    const now = Date.now() + ahead;
    for (const t of document.querySelectorAll("time[data-left]")) {
      const left = (Date.parse(t.dateTime) - now) / 1000;
      t.textContent = left > 0 ? words(left) : "over";
    }
    for (const t of document.querySelectorAll("time[data-ago]")) {
      const ago = (now - Date.parse(t.dateTime)) / 1000;
      t.textContent = ago < 1 ? "just now" : words(ago) + " ago";
    }
  }

  function charts() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    for (const figure of document.querySelectorAll("figure[data-chart]")) {
      const plot = figure.querySelector(".plot");
      const data = JSON.parse(figure.dataset.chart);
      plot.replaceChildren();
      const lines = ["--line-1", "--line-2"];
      const axis = { stroke: colour("--text-2"), grid: { stroke: colour("--border"), width: 1 }, ticks: { stroke: colour("--border"), width: 1 } };
      const bars = figure.dataset.kind === "bars" ? uPlot.paths.bars({ size: [0.7, 60] }) : undefined;
      const options = {
        width: Math.max(plot.clientWidth, 200), height: 200, cursor: { drag: { x: false, y: false } }, legend: { live: false },
        tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), "UTC"),
        scales: { x: { time: true, range: (u, min, max) => [min - 43200, max + 43200] }, y: { range: (u, min, max) => [0, Math.max(max, 1) * 1.1] } },
        axes: [
          Object.assign({ values: (u, days) => days.map((d) => new Date(d * 1e3).toISOString().slice(5, 10)), space: 60, incrs: [86400, 2 * 86400, 7 * 86400, 14 * 86400, 30 * 86400] }, axis),
          Object.assign({ size: 50 }, axis)
        ],
        series: [{}].concat(data.series.map((s, i) => ({
          label: s.label, stroke: colour(lines[i]), width: 2, fill: bars ? colour(lines[i]) : undefined, paths: bars, spanGaps: true, points: { show: !bars, size: 6 }
        })))
      };
      new uPlot(options, [data.days].concat(data.series.map((s) => s.values)), plot);
    }
  }

  async function copy(button) {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.parentElement.querySelector("code"));
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  function lost(is) {
    document.getElementById("lost").hidden = !is;
  }

  document.addEventListener("click", (e) => {
    const button = e.target.closest("button[data-copy]");
    if (button) copy(button);
  });
  document.addEventListener("htmx:beforeRequest", (e) => { if (document.hidden) e.preventDefault(); });
  document.addEventListener("htmx:sendError", () => lost(true));
  document.addEventListener("htmx:timeout", () => lost(true));
  document.addEventListener("htmx:responseError", () => lost(true));
  document.addEventListener("htmx:afterSwap", () => { lost(false); setClock(); tick(); });
  document.addEventListener("DOMContentLoaded", () => { setClock(); tick(); charts(); setInterval(tick, 1000); });
  let size;
  window.addEventListener("resize", () => { clearTimeout(size); size = setTimeout(charts, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", charts);
})();
