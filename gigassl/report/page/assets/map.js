"use strict";
/* The map of slides. Texts of the data enter the page as text alone, never as HTML. */
(() => {
  const root = document.getElementById("atlas");
  if (!root) return;
  const part = (id) => document.getElementById(`atlas-${id}`);
  const data = JSON.parse(part("data").textContent);
  const n = data.ids.length;
  const byName = new Map(data.columns.map((column) => [column.name, column]));
  const COLOURS = ["#4f78c4", "#e08a3c", "#3a9d78", "#c8558f", "#8b6bc4", "#c9503f", "#5fb0cf",
    "#a98f2f", "#7a8794", "#b3697a", "#6f9e3f", "#d9a5c7"];
  const RAMP = [[0, "#3b2f73"], [0.25, "#3f6a9c"], [0.5, "#3aa08c"], [0.75, "#9cc553"], [1, "#f4d94a"]];
  const MANY = 2000;
  document.documentElement.classList.toggle("no-pictures", !data.pictured);
  let pictures = null;
  let map = 0, column = byName.get(data.first) || null, kept = null, chosen = -1, pointed = -1;

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  /* The thumbnail of a slide: inside the page, or fetched from its folder when it is wanted. */
  function shot(row) {
    pictures ??= JSON.parse(part("pictures").textContent);
    const frame = element("span", "shot");
    if (pictures[row]) {
      const image = element("img");
      image.alt = `Thumbnail of ${data.ids[row]}`;
      image.decoding = "async";
      image.src = data.folder ? data.folder + pictures[row] : `data:image/jpeg;base64,${pictures[row]}`;
      frame.append(image);
    }
    return frame;
  }

  function textOf(col, row) {
    if (col.names) return col.codes[row] < 0 ? "" : col.names[col.codes[row]];
    return col.values[row] === null ? "" : String(col.values[row]);
  }

  /* Colours of categories: the commonest by themselves, the rest in grey. */
  function ranks(col) {
    if (col.ranks) return col.ranks;
    const counts = new Array(col.names.length).fill(0);
    col.codes.forEach((code) => { if (code >= 0) counts[code] += 1; });
    const order = counts.map((_, k) => k);
    if (order.length > COLOURS.length) order.sort((a, b) => counts[b] - counts[a] || a - b);
    const shown = new Set(order.slice(0, COLOURS.length));
    const colour = new Array(col.names.length).fill(null);
    [...shown].sort((a, b) => a - b).forEach((code, k) => { colour[code] = COLOURS[k]; });
    col.ranks = { counts, colour };
    return col.ranks;
  }

  function webgl() {
    try {
      const canvas = document.createElement("canvas");
      return Boolean(canvas.getContext("webgl"));
    } catch (error) {
      return false;
    }
  }
  const kind = n > MANY && webgl() ? "scattergl" : "scatter";
  const size = n > 5000 ? 4.5 : n > MANY ? 6 : n > 300 ? 8 : 11;

  function traces() {
    const { x, y } = data.maps[map];
    const muted = gigassl.colour("--muted"), surface = gigassl.colour("--surface");
    const groups = [[], []];
    for (let row = 0; row < n; row += 1) {
      const known = column && (column.names ? column.codes[row] >= 0 : column.values[row] !== null);
      groups[known ? 1 : 0].push(row);
    }
    const made = groups.map((rows, known) => {
      const marker = {
        size, opacity: kept ? rows.map((row) => (kept[row] ? 0.95 : 0.07)) : 0.88,
        line: { width: n > MANY ? 0 : 0.7, color: surface },
      };
      if (!known) marker.color = column ? muted : gigassl.colour("--accent");
      else if (column.names) {
        const { colour } = ranks(column);
        marker.color = rows.map((row) => colour[column.codes[row]] || muted);
      } else {
        marker.color = rows.map((row) => column.values[row]);
        marker.colorscale = RAMP;
      }
      return {
        type: kind, mode: "markers", hoverinfo: "none", showlegend: false, customdata: rows,
        x: rows.map((row) => x[row]), y: rows.map((row) => y[row]), marker,
      };
    }).filter((trace) => trace.x.length);
    if (chosen >= 0) made.push(...rings(x, y));
    return made;
  }

  function rings(x, y) {
    const near = neighbours(chosen).map(({ row }) => row);
    const ring = (rows, width, px) => ({
      type: kind, mode: "markers", hoverinfo: "skip", showlegend: false,
      x: rows.map((row) => x[row]), y: rows.map((row) => y[row]),
      marker: { symbol: "circle-open", size: px, color: gigassl.colour("--text"), line: { width } },
    });
    return [ring(near, 1.5, size + 7), ring([chosen], 3, size + 13)];
  }

  function layout() {
    const { axes } = data.maps[map];
    const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
    const axis = (title) => ({
      showticklabels: false, ticks: "", zeroline: false, showgrid: false, showline: false,
      title: { text: plain(title), font: { size: 12, color: gigassl.colour("--muted") } },
    });
    return gigassl.themed({
      margin: { l: axes[0] ? 34 : 12, r: 12, t: 12, b: axes[0] ? 34 : 12 }, hovermode: "closest",
      dragmode: "pan", hoverdistance: 14, uirevision: map,
      xaxis: axis(axes[0]), yaxis: { ...axis(axes[1]), scaleanchor: "x" },
    });
  }

  const plot = part("plot"), card = part("card");
  const config = {
    ...gigassl.config, scrollZoom: true, displayModeBar: "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "toImage"],
  };
  let ready = null;
  const draw = () => { ready = Plotly.react(plot, traces(), layout(), config); return ready; };

  function neighbours(row) {
    const found = [];
    for (let j = row * data.k; j < (row + 1) * data.k; j += 1) {
      found.push({ row: data.near[j], similarity: data.similar[j] / data.steps });
    }
    return found;
  }

  /* What is pointed at. */
  function showCard(row, event) {
    card.replaceChildren(shot(row), element("div", "id", data.ids[row]));
    const lines = [];
    if (data.patients[row] !== data.ids[row]) lines.push(data.patients[row]);
    if (column) lines.push(`${column.name}: ${textOf(column, row) || "not known"}`);
    lines.forEach((line) => card.append(element("div", "sub", line)));
    card.hidden = false;
    const box = plot.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    const left = x + 18 + card.offsetWidth > box.width ? x - 18 - card.offsetWidth : x + 18;
    card.style.left = `${Math.max(4, Math.min(left, box.width - card.offsetWidth - 4))}px`;
    card.style.top = `${Math.max(4, Math.min(y - 40, box.height - card.offsetHeight - 4))}px`;
  }

  /* The slide that was clicked, and those nearest to it. */
  function choose(row) {
    chosen = row;
    const panel = part("near");
    const top = element("div", "chosen");
    top.append(shot(row), element("h3", "", data.ids[row]));
    const list = element("dl");
    const facts = data.columns.map((col) => [col.name, textOf(col, row)]);
    for (const [name, value] of facts) {
      if (value) list.append(element("dt", "", name), element("dd", "", value));
    }
    const near = element("ol");
    for (const { row: other, similarity } of neighbours(row)) {
      const item = element("li", data.patients[other] === data.patients[row] ? "same" : "");
      item.dataset.slideId = data.ids[other];
      const button = element("button");
      button.type = "button";
      const text = element("span");
      text.append(element("div", "id", data.ids[other]));
      text.append(element("div", "sub", column ? textOf(column, other) : data.patients[other]));
      button.append(shot(other), text, element("span", "similarity", similarity.toFixed(3)));
      button.addEventListener("click", () => choose(other));
      item.append(button);
      near.append(item);
    }
    panel.replaceChildren(top, list, near);
    panel.scrollTop = 0;
    draw();
  }

  /* "text", "column = value", "column > 3": which slides are meant. */
  function meant(query) {
    const words = query.trim();
    if (!words) return null;
    const said = /^(.+?)\s*(<=|>=|!=|=|:|<|>)\s*(.+)$/.exec(words);
    const named = said && data.columns.find((c) => c.name.toLowerCase() === said[1].toLowerCase());
    const all = Array.from({ length: n }, (_, row) => row);
    if (named) return all.map((row) => holds(textOf(named, row), said[2], said[3]));
    const wanted = words.toLowerCase();
    const texts = data.columns.filter((c) => c.names);
    return all.map((row) => [data.ids[row], data.patients[row], ...texts.map((c) => textOf(c, row))]
      .some((text) => text.toLowerCase().includes(wanted)));
  }

  function holds(text, sign, value) {
    if (text === "") return sign === "!=";
    const bare = value.replace(/^(["'])(.*)\1$/, "$2");
    const [a, b] = [Number(text), Number(bare)];
    const numbers = bare !== "" && !Number.isNaN(a) && !Number.isNaN(b);
    const same = numbers ? a === b : text.toLowerCase() === bare.toLowerCase();
    switch (sign) {
      case "=": return same;
      case "!=": return !same;
      case ":": return text.toLowerCase().includes(bare.toLowerCase());
      case "<": return numbers && a < b;
      case "<=": return numbers && a <= b;
      case ">": return numbers && a > b;
      default: return numbers && a >= b;
    }
  }

  function filter() {
    kept = meant(part("filter").value);
    const count = kept ? kept.filter(Boolean).length : n;
    const of = kept ? `${count.toLocaleString("en")} of ${n.toLocaleString("en")}` : n.toLocaleString("en");
    part("count").textContent = `${of} slides`;
    draw();
    legend();
  }

  function legend() {
    const box = part("legend");
    box.replaceChildren();
    if (!column) return;
    if (!column.names) {
      const values = column.values.filter((value) => value !== null);
      const ramp = element("span", "ramp");
      ramp.style.background = `linear-gradient(90deg, ${RAMP.map(([at, c]) => `${c} ${at * 100}%`)})`;
      const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
      box.append(element("span", "", low), ramp, element("span", "", high));
      return;
    }
    const { counts, colour } = ranks(column);
    let others = 0;
    column.names.forEach((name, code) => {
      if (!colour[code]) { others += counts[code]; return; }
      const query = `${column.name} = ${name}`;
      const chip = element("button", "chip");
      chip.type = "button";
      const dot = element("i");
      dot.style.background = colour[code];
      chip.append(dot, element("span", "", name), element("span", "n", counts[code].toLocaleString("en")));
      chip.setAttribute("aria-pressed", String(part("filter").value === query));
      chip.addEventListener("click", () => {
        part("filter").value = part("filter").value === query ? "" : query;
        filter();
      });
      box.append(chip);
    });
    if (others) box.append(element("span", "", `${others.toLocaleString("en")} in smaller groups`));
  }

  function said() {
    const text = data.maps[map].said;
    part("said").textContent = text.charAt(0).toUpperCase() + text.slice(1) + ".";
  }

  root.querySelectorAll("[data-map]").forEach((button) => button.addEventListener("click", () => {
    map = Number(button.dataset.map);
    root.querySelectorAll("[data-map]").forEach((other) =>
      other.setAttribute("aria-pressed", String(other === button)));
    said();
    draw();
  }));
  part("colour").addEventListener("change", ({ target }) => {
    column = byName.get(target.value) || null;
    draw();
    legend();
  });
  let typing = 0;
  part("filter").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(filter, n > MANY ? 250 : 60);
  });
  part("filter").addEventListener("keydown", ({ key }) => {
    if (key !== "Enter") return;
    clearTimeout(typing);
    filter();
    const first = kept ? kept.indexOf(true) : -1;
    if (first >= 0) choose(first);
  });

  draw().then(() => {
    plot.on("plotly_hover", ({ points, event }) => {
      const row = points[0].customdata;
      if (row === undefined || !event) return;
      pointed = row;
      showCard(row, event);
    });
    plot.on("plotly_unhover", () => {
      card.hidden = true;
      pointed = -1;
    });
    plot.on("plotly_click", ({ points }) => {
      const row = points[0].customdata;
      if (row !== undefined && row !== chosen) choose(row);
    });
    /* Plotly drops a click while it draws; what was pointed at when the button went down is meant. */
    let pressed = null;
    plot.addEventListener("pointerdown", ({ clientX, clientY }) => {
      pressed = { row: pointed, x: clientX, y: clientY };
    }, true);
    addEventListener("pointerup", ({ clientX, clientY }) => {
      const still = pressed && Math.hypot(clientX - pressed.x, clientY - pressed.y) < 4;
      if (still && pressed.row >= 0 && pressed.row !== chosen) choose(pressed.row);
      pressed = null;
    }, true);
    root.dataset.ready = "yes";
    root.dataset.readyMs = String(Math.round(performance.now()));
  });
  gigassl.onRepaint(draw);
  said();
  legend();

  /* Cards of slides in other sections: their pictures when they come into view, a click leads here. */
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      target.querySelector(".shot").replaceWith(shot(Number(target.dataset.slide)));
    }
  }, { rootMargin: "400px" });
  document.querySelectorAll("[data-slide]").forEach((button) => {
    watcher.observe(button);
    button.addEventListener("click", () => {
      choose(Number(button.dataset.slide));
      document.getElementById("map").scrollIntoView();
    });
  });
})();
