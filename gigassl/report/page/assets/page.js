"use strict";
/* Light and dark, the place in the navigation, and figures drawn when they come into view. */
const gigassl = (() => {
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const redraws = [];

  function isDark() {
    const chosen = root.dataset.theme;
    return chosen ? chosen === "dark" : prefersDark.matches;
  }

  /* The colour that a variable of the page stands for just now. */
  function colour(variable) {
    const probe = document.createElement("i");
    probe.style.color = `var(${variable})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  function resolved(value) {
    if (typeof value === "string") {
      const named = /^var\((--[a-z]+)\)$/.exec(value);
      return named ? colour(named[1]) : value;
    }
    if (Array.isArray(value)) {
      return typeof value[0] === "number" ? value : value.map(resolved);
    }
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v)]));
    }
    return value;
  }

  /* A layout with the page's fonts and colours below what the figure itself asks for. */
  function themed(layout) {
    const [text, muted, line, surface] = ["--text", "--muted", "--line", "--surface"].map(colour);
    const clear = "rgba(0,0,0,0)";
    const base = {
      autosize: true, paper_bgcolor: clear, plot_bgcolor: clear,
      margin: { l: 60, r: 20, t: 40, b: 52 },
      hoverlabel: { bgcolor: surface, bordercolor: line, font: { color: text } },
      modebar: { bgcolor: clear, color: muted, activecolor: colour("--accent") },
      legend: { orientation: "h", y: -0.2, font: { color: text } },
      ...resolved(layout),
    };
    base.font = { family: getComputedStyle(root).fontFamily, size: 13, color: text, ...base.font };
    const axes = new Set(Object.keys(base).filter((key) => /^[xy]axis\d*$/.test(key)));
    for (const axis of axes.add("xaxis").add("yaxis")) {
      base[axis] = {
        gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true,
        tickfont: { color: muted }, ...base[axis],
      };
    }
    return base;
  }

  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["sendDataToCloud"] };

  function draw(figure) {
    const plot = figure.querySelector(".plot");
    const spec = JSON.parse(figure.querySelector("script").textContent);
    const again = () => Plotly.react(plot, resolved(spec.data), themed(spec.layout), config);
    again();
    redraws.push(again);
    plot.dataset.drawn = "yes";
  }

  function repaint() {
    redraws.forEach((again) => again());
  }

  const waiting = new Set(document.querySelectorAll("figure.figure"));
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && waiting.delete(target)) {
        watcher.unobserve(target);
        draw(target);
      }
    }
  }, { rootMargin: "300px" });
  waiting.forEach((figure) => watcher.observe(figure));

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    repaint();
  });
  prefersDark.addEventListener("change", repaint);

  /* Paper is white, and shows what nobody has scrolled to. */
  let before = "";
  addEventListener("beforeprint", () => {
    before = root.dataset.theme || "";
    root.dataset.theme = "light";
    waiting.forEach(draw);
    waiting.clear();
    repaint();
  });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
    repaint();
  });

  const links = new Map();
  for (const link of document.querySelectorAll(".bar nav a")) {
    links.set(link.getAttribute("href").slice(1), link);
  }
  const reader = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) {
        links.forEach((link) => link.removeAttribute("aria-current"));
        links.get(target.id)?.setAttribute("aria-current", "true");
      }
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main > section").forEach((section) => reader.observe(section));

  return { colour, themed, config, onRepaint: (again) => redraws.push(again) };
})();
