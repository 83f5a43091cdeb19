"use strict";
// Draws one task's points from the data that stands in the page; see report.py for what the data are.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const chart = byId("chart");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const state = { task: 0, compute: false, off: { stages: new Set(), methods: new Set(), sources: new Set() }, at: -1, visible: [] };
  const SOURCES = ["verified", "estimated"];

  function element(name, text, parent) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }

  function bytes(bits) {
    let size = bits / 8;
    const units = ["B", "kB", "MB", "GB", "TB"];
    while (size >= 999.5 && units.length > 1) { size /= 1000; units.shift(); }
    return size.toFixed(size < 99.95 && units[0] !== "B" ? 1 : 0).replace(/\.0$/, "") + " " + units[0];
  }

  const score = (task, value) => value === null ? "not measured" : value.toFixed(task.digits);
  const quoted = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\\''") + "'";

  function command(task, p) {
    if (!p.program) return "no file was written: the length is an estimate";
    const folder = data.folders[p.folder];
    const join = (path) => folder === "." ? path : folder + "/" + path;
    const scripts = p.checkpoint === "" ? " --allow_scripts" : "";
    return "python -m experiments.run_program --program=" + quoted(join(p.program)) + " --checkpoint=" +
      quoted(p.checkpoint || "stories260k") + " --prompts=" + quoted(join("prompts/" + task.evaluation + ".jsonl")) + scripts;
  }

  function facts(task, i) {
    const p = point(task, i);
    const b = p.bits;
    const part = (name, value) => value === null ? name + " not given" : name + " " + value.toLocaleString("en");
    return [
      ["program", p.stage + ", " + p.method + (p.frontier ? ", on the frontier" : ", dominated")],
      ["length", bytes(b[0]) + " = " + b[0].toLocaleString("en") + " bits: " + part("header", b[2]) + ", " +
        part("payload", b[1]) + "; " + part("ideal", b[3]) + "; " + part("as the paper counts", b[4])],
      [task.metric + ", test", score(task, p.y) +
        (p.lo === p.hi ? ", no interval known" : " [" + score(task, p.lo) + ", " + score(task, p.hi) + "]") + ", n = " + p.n],
      [task.metric + ", dev", score(task, p.dev) + (p.dev === null ? "" : ", n = " + p.devN)],
      ["settings", p.settings || "none"],
      ...(p.compute === null ? [] : [["compute", "2^" + p.compute.toFixed(1) + " FLOPs to decode and to answer one example"]]),
      ["checkpoint", p.checkpoint || "no model"],
      ...(p.forgetting ? [["forgets, on other tasks", p.forgetting]] : []),
      ["source", p.verified ? "verified: decoded and scored in a process of its own" : "estimated: no decoder was run"],
      ["command", command(task, p)],
    ];
  }

  function point(task, i) {
    const c = task.columns;
    return {
      stage: task.stages[c.stage[i]].label, method: task.methods[c.method[i]].name, y: c.y[i], lo: c.lo[i], hi: c.hi[i],
      n: c.n[i], dev: c.dev[i], devN: c.devN[i], verified: c.verified[i] === 1, frontier: c.frontier[i] === 1,
      settings: data.texts[c.settings[i]], checkpoint: data.texts[c.checkpoint[i]], program: c.program[i],
      folder: c.folder[i], forgetting: data.texts[c.forgetting[i]], compute: c.compute[i], bits: [c.x[i], c.payload[i], c.header[i], c.ideal[i], c.paper[i]],
    };
  }

  function show(i) {
    const task = data.tasks[state.task];
    const detail = byId("detail");
    detail.replaceChildren();
    const list = element("dl", undefined, detail);
    for (const [name, text] of facts(task, i)) {
      element("dt", name, list);
      element(name === "command" ? "code" : "span", text, element("dd", undefined, list));
    }
  }

  function wanted(task, i) {
    const c = task.columns, off = state.off;
    return !off.stages.has(c.stage[i]) && !off.methods.has(c.method[i]) && !off.sources.has(1 - c.verified[i]) &&
      (!state.compute || c.compute[i] !== null);
  }

  // Where a program is drawn: at its length, or at length and compute, and no further left than a byte.
  const at = (c, i) => Math.max(c.x[i] + (state.compute ? c.compute[i] : 0), 8);

  // The chosen programs, which were chosen by length: by length and compute they are chosen here, in the same way.
  function line(task, s) {
    if (!state.compute) return task.stages[s].line;
    const c = task.columns, score = (i) => data.chooses === "dev" ? c.dev[i] : c.y[i];
    const own = [...c.x.keys()].filter((i) => c.stage[i] === s && c.compute[i] !== null && score(i) !== null);
    own.sort((a, b) => at(c, a) - at(c, b) || score(b) - score(a));
    let best = -Infinity;
    return own.filter((i) => score(i) > best && ((best = score(i)), true));
  }

  function traces(task) {
    const c = task.columns, groups = new Map(), kind = c.x.length > 4000 ? "scattergl" : "scatter";
    state.visible = [];
    for (let i = 0; i < c.x.length; i++) {
      if (!wanted(task, i)) continue;
      state.visible.push(i);
      const key = c.stage[i] + " " + c.method[i];
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(i);
    }
    const found = [];
    task.stages.forEach((stage, s) => {
      const chosen = line(task, s);
      if (state.off.stages.has(s) || !chosen.length) return;
      const x = chosen.map((i) => at(c, i)), y = chosen.map((i) => c.y[i]);
      x.push(task.most); y.push(y[y.length - 1]);
      found.push({ type: "scatter", mode: "lines", x, y, name: stage.label, hoverinfo: "skip", showlegend: true,
        line: { shape: "hv", color: colour(stage), width: 2, dash: stage.dash } });
    });
    for (const [key, own] of groups) {
      const [s, m] = key.split(" ").map(Number);
      const few = own.length <= 2000;
      found.push({
        type: kind, mode: "markers", name: task.stages[s].label + " " + task.methods[m].name, showlegend: false,
        x: own.map((i) => at(c, i)), y: own.map((i) => c.y[i]), customdata: own,
        text: few ? own.map((i) => facts(task, i).map(([k, v]) => "<b>" + k + "</b> " + broken(v)).join("<br>")) : undefined,
        hovertemplate: few ? "%{text}<extra></extra>" : "%{x:,} bits, %{y}<extra>" + task.stages[s].label + "</extra>",
        marker: { size: 9, color: colour(task.stages[s]), line: { width: 1.5, color: colour(task.stages[s]) },
          symbol: own.map((i) => task.methods[m].symbol + (c.verified[i] ? "" : "-open")),
          opacity: own.map((i) => c.frontier[i] ? 1 : 0.35) },
        error_y: few ? { type: "data", symmetric: false, thickness: 1, width: 0, array: own.map((i) => c.hi[i] - c.y[i]),
          arrayminus: own.map((i) => c.y[i] - c.lo[i]) } : undefined,
      });
    }
    if (task.overlay.x.length) {
      found.push({ type: "scatter", mode: "markers", x: task.overlay.x, y: task.overlay.y, text: task.overlay.text,
        name: "published, no decoder", hovertemplate: "%{text}<extra></extra>",
        marker: { symbol: "cross-thin-open", size: 7, color: faint() } });
    }
    return found;
  }

  const safe = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const broken = (text) => safe(text).replace(/(.{70}\S*?[ ,/-])/g, "$1<br>&nbsp;&nbsp;");
  const colour = (stage) => dark.matches ? stage.dark : stage.colour;
  const faint = () => getComputedStyle(document.documentElement).getPropertyValue("--faint").trim();
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function layout(task) {
    const ticks = [], labels = [];
    for (let k = Math.floor(Math.log10(task.least / 8)); k <= Math.ceil(Math.log10(task.most / 8)); k++) {
      ticks.push(8 * 10 ** k); labels.push(bytes(8 * 10 ** k));
    }
    const familiar = data.familiar.filter(([, bits]) => bits > task.least && bits < task.most);
    const level = (value, text) => ({ value, text });
    const levels = [];
    if (task.constant !== null) levels.push(level(task.constant, "constant answer"));
    if (task.script !== null) levels.push(level(task.script, "best script"));
    return {
      paper_bgcolor: css("--paper"), plot_bgcolor: css("--paper"), font: { color: css("--ink"), size: 13 },
      margin: { l: 60, r: 15, t: 50, b: 55 }, hovermode: "closest", dragmode: "pan", uirevision: String(state.task),
      hoverlabel: { align: "left", bgcolor: css("--panel"), font: { color: css("--ink"), size: 12 } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      xaxis: { type: "log", title: { text: state.compute ? "program length + log2 of FLOPs (bytes)" : data.axis }, tickvals: ticks, ticktext: labels, gridcolor: css("--line"),
        range: [Math.log10(task.least), Math.log10(task.most)], fixedrange: false },
      yaxis: { title: { text: task.metric + " on test" }, gridcolor: css("--line"), zeroline: false },
      shapes: familiar.map(([, bits]) => ({ type: "line", x0: bits, x1: bits, yref: "paper", y0: 0, y1: 1, layer: "below",
        line: { color: css("--line"), width: 1, dash: "dot" } })).concat(levels.map(({ value }) => ({
        type: "line", xref: "paper", x0: 0, x1: 1, y0: value, y1: value, layer: "below", line: { color: faint(), width: 1 } }))),
      annotations: familiar.map(([name, bits]) => ({ x: Math.log10(bits), yref: "paper", y: 0.01, yanchor: "bottom",
        text: name, textangle: -90, xanchor: "right", showarrow: false, font: { size: 10, color: faint() } })).concat(
        levels.map(({ value, text }) => ({ xref: "paper", x: 1, xanchor: "right", y: value, yanchor: "bottom", text,
          showarrow: false, font: { size: 10, color: faint() } }))),
    };
  }

  function draw() {
    const task = data.tasks[state.task];
    Plotly.react(chart, traces(task), layout(task), { responsive: true, displaylogo: false, scrollZoom: true }).then(() => {
      chart.dataset.drawn = String(state.visible.length);
    });
    byId("shown").textContent = state.visible.length.toLocaleString("en") + " of " +
      task.columns.x.length.toLocaleString("en") + " programs shown. " + task.caption;
    state.visible.sort((a, b) => at(task.columns, a) - at(task.columns, b) || task.columns.y[a] - task.columns.y[b]);
    state.at = -1;
  }

  function boxes(id, names) {
    const place = byId(id);
    for (const old of [...place.querySelectorAll("label")]) old.remove();
    names.forEach((name, i) => {
      const label = element("label", undefined, place);
      const box = element("input", undefined, label);
      box.type = "checkbox"; box.checked = true; box.name = name;
      box.addEventListener("change", () => { state.off[id][box.checked ? "delete" : "add"](i); draw(); });
      label.append(" " + name);
    });
    state.off[id].clear();
  }

  function choose(t) {
    state.task = t;
    const task = data.tasks[t];
    boxes("stages", task.stages.map((s) => s.label));
    boxes("methods", task.methods.map((m) => m.name));
    boxes("sources", SOURCES);
    byId("axes").hidden = task.columns.compute.every((value) => value === null);
    state.compute = !byId("axes").hidden && byId("axis").value === "compute";
    const text = byId("text");
    text.replaceChildren();
    element("h2", "What came out", text);
    const sentences = element("ul", undefined, text);
    task.sentences.forEach((s) => element("li", s, sentences));
    for (const { title, rows, note } of task.tables) {
      element("h2", title, text);
      const wide = element("div", undefined, text);
      wide.className = "wide"; wide.tabIndex = 0;
      const table = element("table", undefined, wide);
      rows.forEach((row, r) => {
        const line = element("tr", undefined, table);
        row.forEach((cell) => element(r ? "td" : "th", cell, line));
      });
      if (note) element("p", note, text).className = "note";
    }
    draw();
  }

  function step(by) {
    if (!state.visible.length) return;
    state.at = Math.min(Math.max(state.at + by, 0), state.visible.length - 1);
    const i = state.visible[state.at], c = data.tasks[state.task].columns;
    show(i);
    Plotly.relayout(chart, { "annotations": layout(data.tasks[state.task]).annotations.concat([{ x: Math.log10(at(c, i)),
      y: c.y[i], text: "", showarrow: true, arrowhead: 0, arrowwidth: 2, arrowcolor: css("--focus"), ax: 0, ay: -30 }]) });
  }

  data.tasks.forEach((task, t) => { element("option", task.name, byId("task")).value = String(t); });
  byId("axis").addEventListener("change", () => choose(state.task));
  byId("task").addEventListener("change", (event) => choose(Number(event.target.value)));
  chart.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (by !== undefined) { event.preventDefault(); step(by); }
  });
  choose(0);
  chart.on("plotly_hover", (event) => { const i = event.points[0].customdata; if (i !== undefined) show(i); });
  dark.addEventListener("change", draw);
})();
