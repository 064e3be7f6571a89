"use strict";
// Draws the runs that stand in the element #runs. Texts of a run are only ever set as textContent.

const runs = JSON.parse(document.getElementById("runs").textContent);
const SERIES = 8;
const PERCENTILES = [["p50", "open_p50_us"], ["p99", "open_p99_us"], ["p99.9", "open_p99.9_us"],
  ["p99.99", "open_p99.99_us"], ["max", "open_max_us"]];
const MEDIA = [["DRAM", "dram_hit_share"], ["far memory", "far_hit_share"], ["tier", "tier_hit_share"]];

// ---- small helpers ----

const known = (value) => typeof value === "number" && Number.isFinite(value);
const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function shape(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// Three digits that matter, without a row of zeros behind the point.
function digits(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

function scaled(value, steps) {
  let [factor, unit] = steps[0];
  for (const [next, name] of steps) if (Math.abs(value) >= next * 0.9995) [factor, unit] = [next, name];
  return digits(value / factor) + unit;
}

const format = {
  count: (value) => scaled(value, [[1, ""], [1e3, " k"], [1e6, " M"], [1e9, " G"]]),
  time: (value) => scaled(value, [[1e-3, " ns"], [1, " µs"], [1e3, " ms"], [1e6, " s"]]),
  bytes: (value) => scaled(value, [[1, " B"], [1e3, " kB"], [1e6, " MB"], [1e9, " GB"], [1e12, " TB"]]),
  rate: (value) => format.bytes(value) + "/s",
  perKey: (value) => digits(value) + " B",
  share: (value) => digits(value * 100) + " %",
  ratio: (value) => digits(value) + "×",
  whole: (value) => Math.round(value).toLocaleString("en"),
};

// ---- what is drawn over what ----

const points = runs.flatMap((run, index) => run.steps.map((step) => ({run, index, step})));
const byRatio = points.length > 0 && points.every((point) => known(point.step.dram_ratio));
const across = byRatio
  ? {name: "dram_ratio", title: "dataset : DRAM", show: format.ratio}
  : {name: "payload_bytes", title: "dataset, keys and values (bytes)", show: format.bytes};

let shown = runs.map(() => true);
let percentile = runs.length === 1 ? "all" : "p99.9";

// A chart is a list of series: {run, figure, style, name, dash?, reference?}. Style numbers choose colour and mark.
const perRun = (figure) => () =>
  runs.map((run, index) => ({run: index, figure, style: index % SERIES, name: run.label}));

function tailSeries() {
  return runs.flatMap((run, index) => PERCENTILES
    .filter(([name]) => percentile === "all" || percentile === name)
    .map(([name, figure], level) => ({
      run: index, figure, style: (percentile === "all" && runs.length === 1 ? level : index) % SERIES,
      name: runs.length === 1 ? name : `${run.label}, ${name}`,
    })));
}

// Runs of the same data share one line of reference.
function memorySeries() {
  const payload = (run) => run.steps.length > 0 ? Math.round(run.steps[run.steps.length - 1].payload_per_key) : 0;
  const same = runs.every((run) => payload(run) === payload(runs[0]));
  const longest = runs.reduce((best, run, index) => run.steps.length > runs[best].steps.length ? index : best, 0);
  return runs.flatMap((run, index) => {
    const list = [{run: index, figure: "bytes_per_key", style: index % SERIES, name: run.label}];
    if (!same || index === longest)
      list.push({run: index, figure: "payload_per_key", style: same ? "neutral" : index % SERIES, reference: true,
        name: same ? "key and value alone" : `${run.label}, key and value alone`});
    return list;
  });
}

function mediaSeries() {
  const several = runs.length > 1;
  return runs.flatMap((run, index) => MEDIA.map(([name, figure], level) => ({
    run: index, figure: "closed_" + figure, style: (several ? index : level) % SERIES, dash: several ? level : 0,
    name: several ? `${run.label}, ${name}` : name,
  })).filter((series) => run.steps.some((step) => step[series.figure] > 0))); // no line for a medium the server lacks
}

const CHARTS = [
  {id: "throughput", title: "Throughput", about: "closed loop, more is better", unit: "operations per second",
   show: format.count, series: perRun("closed_operations_per_second")},
  {id: "tail", title: "Tail latency", about: "open loop, from when an operation was due; less is better",
   unit: "latency (logarithmic)", show: format.time, series: tailSeries, logarithmic: true, choice: true},
  {id: "memory", title: "Memory per key", about: "resident bytes beyond the empty server; less is better",
   unit: "bytes per key", show: format.perKey, series: memorySeries},
  {id: "media", title: "Where reads were served", about: "closed loop, share of hits on each medium",
   unit: "share of hits", show: format.share, series: mediaSeries, top: 1},
  {id: "hits", title: "Hit rate", about: "closed loop, reads that found their key", unit: "share of reads",
   show: format.share, series: perRun("closed_hit_share"), top: 1, onlyIf: (value) => value < 1},
  {id: "cpu", title: "CPU per operation", about: "closed loop, the server's process; less is better",
   unit: "time per operation", show: format.time, series: perRun("closed_cpu_us_per_operation")},
  {id: "device", title: "Device reads per operation", about: "closed loop, the device named by --device",
   unit: "reads per operation", show: digits, series: perRun("closed_device_reads_per_operation")},
  {id: "bytes-read", title: "Bytes read from devices", about: "closed loop, the server's process",
   unit: "bytes per operation", show: format.bytes, onlyIf: (value) => value > 0,
   series: perRun("closed_process_read_bytes_per_operation")},
  {id: "load", title: "Load speed", about: "keys and values stored while filling; more is better",
   unit: "bytes per second", show: format.rate, series: perRun("load_payload_bytes_per_second")},
];

function pointsOf(series) {
  return runs[series.run].steps
    .filter((step) => known(step[across.name]) && known(step[series.figure]))
    .map((step) => ({x: step[across.name], y: step[series.figure], step, series}))
    .sort((a, b) => a.x - b.x);
}

// A chart without a single figure is left out.
function isDrawable(chart) {
  const all = chart.series().flatMap(pointsOf);
  return all.length > 0 && (!chart.onlyIf || all.some((point) => chart.onlyIf(point.y)));
}

// ---- scales ----

function niceStep(span, wanted) {
  const rough = span / wanted, power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
}

function linearScale(low, high, from, to, wanted) {
  const step = niceStep(high - low || 1, wanted), end = Math.ceil(high / step - 1e-9) * step;
  const ticks = [];
  for (let i = 0; low + i * step <= end + step * 1e-6; i++) ticks.push(low + i * step);
  return {ticks, at: (value) => from + (value - low) / (end - low || 1) * (to - from)};
}

function logScale(low, high, from, to, factors, tight) {
  const bottom = tight ? low : 10 ** Math.floor(Math.log10(low));
  const top = tight ? high : 10 ** Math.ceil(Math.log10(high) + 1e-9);
  const ticks = [];
  for (let power = 10 ** Math.floor(Math.log10(bottom)); power <= top * 1.0001; power *= 10)
    for (const factor of factors)
      if (power * factor >= bottom * 0.9999 && power * factor <= top * 1.0001) ticks.push(power * factor);
  const span = Math.log(top / bottom) || 1;
  return {ticks, at: (value) => from + Math.log(value / bottom) / span * (to - from)};
}

function scaleAcross(values, from, to) {
  const low = Math.min(...values), high = Math.max(...values), unique = [...new Set(values)].sort((a, b) => a - b);
  const logarithmic = low > 0 && high / low > 4;
  const scale = logarithmic ? logScale(low / 1.15, high * 1.15, from, to, [1, 2, 5], true)
                            : linearScale(0, high * 1.02, from, to, 6);
  // Few datasets are their own ticks, unless their labels would touch.
  const spaced = unique.every((value, i) => i === 0 || scale.at(value) - scale.at(unique[i - 1]) > 46);
  if (unique.length <= 8 && spaced) scale.ticks = unique;
  return scale;
}

// ---- drawing ----

const MARKS = [
  (x, y, r) => `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`,
  (x, y, r) => `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}Z`,
  (x, y, r) => `M${x},${y - 1.25 * r}l${1.25 * r},${2.2 * r}h${-2.5 * r}Z`,
  (x, y, r) => `M${x},${y - 1.35 * r}l${1.35 * r},${1.35 * r}l${-1.35 * r},${1.35 * r}l${-1.35 * r},${-1.35 * r}Z`,
];
const markPath = (style, x, y, r = 5) => MARKS[style % MARKS.length](x, y, r);

const lineClass = (series) => series.reference ? "line reference" : `line dash-${series.dash || 0}`;

function swatch(series) {
  const node = shape("svg", {class: `swatch series-${series.style}`, "aria-hidden": "true"});
  node.append(shape("line", {class: lineClass(series), x1: 0, y1: 6, x2: 22, y2: 6}));
  if (!series.reference) node.append(shape("path", {class: "mark", d: markPath(series.style, 11, 6, 4)}));
  return node;
}

function drawAxes(plot, chart, scaleX, scaleY, box) {
  for (const tick of scaleY.ticks) {
    const y = scaleY.at(tick);
    plot.append(shape("line", {class: "grid", x1: box.left, x2: box.right, y1: y, y2: y}),
      shape("text", {x: box.left - 8, y: y + 4, "text-anchor": "end"}, chart.show(tick)));
  }
  for (const tick of scaleX.ticks) {
    const x = scaleX.at(tick);
    plot.append(shape("line", {class: "axis", x1: x, x2: x, y1: box.bottom, y2: box.bottom + 4}),
      shape("text", {x, y: box.bottom + 18, "text-anchor": "middle"}, across.show(tick)));
  }
  plot.append(shape("line", {class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom}),
    shape("text", {class: "title x-title", x: box.right, y: box.bottom + 36, "text-anchor": "end"}, across.title),
    shape("text", {class: "title y-title", x: 0, y: 12}, chart.unit));
  const full = byRatio ? scaleX.at(1) : NaN;
  if (full > box.left + 2 && full < box.right - 2)
    plot.append(shape("line", {class: "full", x1: full, x2: full, y1: box.top - 8, y2: box.bottom}),
      shape("text", {x: full + 6, y: box.top - 8}, "as large as DRAM"));
}

function drawChart(chart, figure) {
  const series = chart.series().filter((one) => shown[one.run]);
  const lists = series.map(pointsOf), all = lists.flat();
  const keys = figure.querySelector(".keys"), holder = figure.querySelector(".holder");
  const named = series.filter((one, i) => lists[i].length > 0);
  keys.replaceChildren(...(runs.length > 1 || named.length > 1 ? named : [])
    .map((one) => element("span", {}, swatch(one), one.name)));
  holder.replaceChildren();
  if (all.length === 0) return;
  const width = Math.max(holder.clientWidth, 300), height = 300;
  const box = {left: 66, right: width - 14, top: 42, bottom: height - 46};
  const plot = shape("svg", {class: "plot", viewBox: `0 0 ${width} ${height}`, height, role: "img",
    "aria-label": `${chart.title}: ${chart.unit} over ${across.title}`});
  const scaleX = scaleAcross(all.map((point) => point.x), box.left + 12, box.right - 12);
  const ys = all.map((point) => point.y), positive = ys.filter((y) => y > 0);
  const logarithmic = chart.logarithmic && positive.length > 0;
  const least = Math.min(...positive), most = Math.max(...positive);
  const near = most / least < 30; // then whole powers of ten would leave most of the chart empty
  const scaleY = !logarithmic
    ? linearScale(Math.min(0, ...ys), chart.top || Math.max(...ys) * 1.05, box.bottom, box.top, 5)
    : near ? logScale(least / 2, most * 2, box.bottom, box.top, [1, 2, 5], true)
           : logScale(least, most, box.bottom, box.top, [1], false);
  drawAxes(plot, chart, scaleX, scaleY, box);
  const marks = [];
  lists.forEach((list, i) => {
    const one = series[i];
    const group = shape("g", {class: `series-${one.style}`});
    const place = (point) => [scaleX.at(point.x), logarithmic && point.y <= 0 ? box.bottom : scaleY.at(point.y)];
    if (list.length > 1 || one.reference)
      group.append(shape("path", {class: lineClass(one),
        d: "M" + list.map((point) => place(point).map((value) => value.toFixed(1)).join(",")).join("L")}));
    if (!one.reference)
      for (const point of list) {
        const [x, y] = place(point);
        const node = shape("path", {class: point.step.filled ? "mark" : "mark hollow", d: markPath(one.style, x, y),
          tabindex: 0, role: "img", "data-run": one.run, "data-figure": one.figure, "data-value": point.y,
          "aria-label": `${one.name}, ${point.step.target}: ${chart.show(point.y)}`});
        const mark = {x, y, node, point};
        node.addEventListener("focus", () => showTip(chart, mark, marks));
        node.addEventListener("blur", () => hideTip(marks));
        group.append(node);
        marks.push(mark);
      }
    plot.append(group);
  });
  plot.addEventListener("pointermove", (event) => pointAt(event, chart, plot, marks));
  plot.addEventListener("pointerleave", () => hideTip(marks));
  holder.append(plot);
}

// ---- tooltips ----

function pointAt(event, chart, plot, marks) {
  const frame = plot.getBoundingClientRect();
  const x = event.clientX - frame.left, y = event.clientY - frame.top;
  let best = null, least = 60;
  for (const mark of marks) {
    const distance = Math.hypot(mark.x - x, mark.y - y);
    if (distance < least) [best, least] = [mark, distance];
  }
  if (best) showTip(chart, best, marks); else hideTip(marks);
}

function showTip(chart, mark, marks) {
  const tip = byId("tip"), {point} = mark, {step} = point;
  hideTip(marks);
  mark.node.classList.add("near");
  const lines = [`${point.series.name}, dataset ${step.target}`];
  if (known(step.dram_ratio)) lines.push(`${format.ratio(step.dram_ratio)} DRAM, ${format.bytes(step.payload_bytes)}`);
  if (known(step.dbsize)) lines.push(`${format.whole(step.dbsize)} keys`);
  if (chart.id === "tail" && known(step.open_intended_per_second))
    lines.push(`at ${format.count(step.open_intended_per_second)} operations/s`);
  if (!step.filled) lines.push("not filled completely");
  tip.replaceChildren(element("b", {}, chart.show(point.y)), ...lines.map((line) => element("span", {}, line)));
  tip.hidden = false;
  const frame = mark.node.ownerSVGElement.getBoundingClientRect(), size = tip.getBoundingClientRect();
  const left = Math.min(frame.left + mark.x + 14, innerWidth - size.width - 8);
  const above = frame.top + mark.y - size.height - 12;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 8 ? above : frame.top + mark.y + 16}px`;
}

function hideTip(marks) {
  byId("tip").hidden = true;
  for (const mark of marks) mark.node.classList.remove("near");
}

// ---- cards, legend, tables ----

function troubles(run) {
  const lines = run.failure ? [`Ended early: ${run.failure}`] : [];
  for (const step of run.steps) {
    const {target} = step, whole = format.whole;
    if (!step.filled) lines.push(`${target}: ${whole(step.dbsize || 0)} keys instead of ${whole(step.keys)}`);
    for (const phase of ["load", "closed", "open", "verify"]) {
      const errors = step[`${phase}_errors`], wrong = step[`${phase}_wrong`];
      const first = step[`${phase}_first_error`];
      if (errors > 0) lines.push(`${target}, ${phase}: ${whole(errors)} error replies, first: ${first}`);
      if (wrong > 0) lines.push(`${target}, ${phase}: ${whole(wrong)} wrong values`);
    }
    if (step.verify_missing > 0) lines.push(`${target}: ${whole(step.verify_missing)} keys missing`);
    if (step.open_unfinished > 0)
      lines.push(`${target}, open loop: ${whole(step.open_unfinished)} operations were not answered in time`);
    const late = step.open_sent_late_p99_us;
    if (late > 1000 && late > step.open_p99_us / 2)
      lines.push(`${target}, open loop: the load generator itself was late, p99 ${format.time(late)}`);
  }
  return lines.length > 6 ? [...lines.slice(0, 5), `and ${lines.length - 5} more`] : lines;
}

function card(run, index) {
  const last = run.steps[run.steps.length - 1] || {}, {settings, server} = run;
  const size = settings.value_size_min === settings.value_size_max ? `${settings.value_size_min}`
    : `${settings.value_size_min}-${settings.value_size_max}`;
  const what = [`${server.name} ${server.version}`,
    known(server.dram_bytes) ? `DRAM ${format.bytes(server.dram_bytes)}` : "",
    `values of ${size} B`, settings.skew, `${digits(settings.read_share * 100)} % reads`,
    `${settings.connections} connections`, settings.pipeline > 1 ? `pipeline ${settings.pipeline}` : ""];
  const figures = [["largest dataset", "payload_bytes", format.bytes],
    ["its operations/s", "closed_operations_per_second", format.count], ["its p99.9", "open_p99.9_us", format.time]];
  const cells = figures.map(([name, figure, show]) => element("div", {}, element("dt", {}, name),
    element("dd", {}, known(last[figure]) ? show(last[figure]) : "-")));
  const node = element("article", {class: `card series-${index % SERIES}`}, element("h2", {}, run.label),
    element("p", {class: "what"}, what.filter(Boolean).join(" · ")), element("dl", {}, ...cells));
  const lines = troubles(run);
  if (lines.length > 0) node.append(element("div", {class: "trouble"}, ...lines.map((line) => element("p", {}, line))));
  return node;
}

const TABLES = [
  ["Load and memory", [["keys", "", "dbsize", format.whole], ["payload", "", "payload_bytes", format.bytes],
    ["RSS", "", "rss_bytes", format.bytes], ["per key", "bytes", "bytes_per_key", digits],
    ["payload", "bytes per key", "payload_per_key", digits], ["overhead", "bytes per key", "overhead_per_key", digits],
    ["load", "", "load_payload_bytes_per_second", format.rate],
    ["load", "keys/s", "load_operations_per_second", format.count],
    ["errors", "", "load_errors", format.whole]]],
  ["Closed loop", [["throughput", "operations/s", "closed_operations_per_second", format.count],
    ["p50", "", "closed_p50_us", format.time], ["p99", "", "closed_p99_us", format.time],
    ["CPU", "per operation", "closed_cpu_us_per_operation", format.time],
    ["hits", "of reads", "closed_hit_share", format.share],
    ["DRAM", "of hits", "closed_dram_hit_share", format.share],
    ["far", "of hits", "closed_far_hit_share", format.share],
    ["tier", "of hits", "closed_tier_hit_share", format.share],
    ["device reads", "per operation", "closed_device_reads_per_operation", digits],
    ["bytes read", "per operation", "closed_process_read_bytes_per_operation", format.bytes],
    ["errors", "", "closed_errors", format.whole]]],
  ["Open loop", [["intended", "operations/s", "open_intended_per_second", format.count],
    ["done", "operations/s", "open_operations_per_second", format.count],
    ...PERCENTILES.map(([name, figure]) => [name, "", figure, format.time]),
    ["sent late", "p99", "open_sent_late_p99_us", format.time], ["not answered", "", "open_unfinished", format.whole],
    ["errors", "", "open_errors", format.whole]]],
  ["Every key read back", [["keys", "", "verify_keys", format.whole], ["wrong", "", "verify_wrong", format.whole],
    ["missing", "", "verify_missing", format.whole], ["expired", "", "verify_missing_with_ttl", format.whole],
    ["errors", "", "verify_errors", format.whole]]],
];

function table(title, columns) {
  const used = points.filter((point) => shown[point.index]);
  const kept = columns.filter(([, , figure]) => used.some((point) => known(point.step[figure])));
  if (kept.length === 0) return null;
  const head = element("tr", {}, element("th", {}, "run"), element("th", {}, "dataset"));
  if (byRatio) head.append(element("th", {}, "ratio", element("small", {}, "dataset : DRAM")));
  for (const [name, unit] of kept) head.append(element("th", {}, name, element("small", {}, unit)));
  const rows = used.map(({run, index, step}) => {
    const row = element("tr", {class: `series-${index % SERIES}`},
      element("td", {}, element("span", {class: "dot"}), run.label), element("td", {}, step.target));
    if (byRatio) row.append(element("td", {}, format.ratio(step.dram_ratio)));
    for (const [, , figure, show] of kept)
      row.append(element("td", {}, known(step[figure]) ? show(step[figure]) : "-"));
    return row;
  });
  return element("div", {class: "sheet"}, element("h3", {}, title), element("div", {class: "scroll"},
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))));
}

// ---- putting it together ----

const figures = new Map();

function redraw() {
  for (const [chart, figure] of figures) drawChart(chart, figure);
  byId("tables").replaceChildren(...TABLES.map(([title, columns]) => table(title, columns)).filter(Boolean));
}

function choiceOf(options, current, pick) {
  const buttons = options.map((name) => element("button", {type: "button", "aria-pressed": name === current}, name));
  buttons.forEach((button, i) => button.addEventListener("click", () => {
    buttons.forEach((other) => other.setAttribute("aria-pressed", other === button));
    pick(options[i]);
  }));
  return buttons;
}

function buildCharts() {
  for (const chart of CHARTS.filter(isDrawable)) {
    const head = element("div", {class: "head"}, element("h3", {}, chart.title));
    if (chart.choice) {
      const names = [...PERCENTILES.map(([name]) => name), ...(runs.length === 1 ? ["all"] : [])];
      head.append(element("div", {class: "choice", role: "group", "aria-label": "Percentile"},
        ...choiceOf(names, percentile, (name) => { percentile = name; redraw(); })));
    }
    const figure = element("figure", {class: "chart", id: `chart-${chart.id}`}, head,
      element("p", {class: "about"}, chart.about), element("div", {class: "keys"}), element("div", {class: "holder"}));
    figures.set(chart, figure);
    byId("charts").append(figure);
  }
}

function buildLegend() {
  runs.forEach((run, index) => {
    const button = element("button", {type: "button", "aria-pressed": true}, swatch({style: index % SERIES}),
      run.label);
    button.addEventListener("click", () => {
      shown[index] = !shown[index];
      button.setAttribute("aria-pressed", shown[index]);
      redraw();
    });
    byId("legend").append(button);
  });
}

function buildViews() {
  byId("view").append(...choiceOf(["Charts", "Table"], "Charts", (name) => {
    byId("charts").hidden = name !== "Charts";
    byId("tables").hidden = name !== "Table";
    redraw();
  }));
}

function start() {
  const names = runs.map((run) => run.label).join(" and ");
  document.title = `Capacity: ${names}`;
  byId("summary").textContent = `${names}: what fits, how fast it answers and how long clients wait as the dataset `
    + (byRatio ? "outgrows DRAM." : "grows.");
  byId("cards").append(...runs.map(card));
  buildLegend();
  buildViews();
  buildCharts();
  redraw();
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
}

start();
