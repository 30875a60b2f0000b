"use strict";
const PERIOD_MS = 2000, ROWS = 12;
const COLOR = { grid: "var(--grid)", pv: "var(--pv)", bess: "var(--bess)", genset: "var(--genset)", load: "var(--load)" };
const GENSET = ["stopped", "cranking", "warming up", "synchronising", "running", "cooling down", "locked out"];
const BESS = ["off", "following", "forming the grid", "tripped"];
const $ = id => document.getElementById(id);
let site = null;

function el(parent, tag, attributes, text) {
  const svg = parent.namespaceURI === "http://www.w3.org/2000/svg";
  const node = svg ? document.createElementNS(parent.namespaceURI, tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(attributes || {})) node.setAttribute(k, v);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}
async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (answer.status === 404) return null;
  const body = await answer.json();
  if (!answer.ok && path !== "/ready") throw new Error(body.error || answer.status);
  return body;
}
function pairs(fields) {
  return Object.entries(fields).filter(([, v]) => v !== null && v !== "" && !(Array.isArray(v) ? typeof (v[0] ?? {}) === "object" : typeof v === "object"))
    .map(([k, v]) => `${k}=${typeof v === "number" ? +v.toPrecision(4) : v}`).join("  ");
}
const number = (v, digits = 0) => v === null || v === undefined ? "–" : v.toFixed(digits).replace("-", "−");
const kw = v => v === null || v === undefined ? "no value" :
  number(v, Math.abs(v) < 10 && Math.abs(v) >= 0.05 ? 1 : 0) + " kW";
function local(iso, seconds = true) {
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: site ? site.timezone : "UTC" };
  if (seconds) options.second = "2-digit";
  return new Intl.DateTimeFormat("en-GB", options).format(new Date(iso));
}

/* ---- power now ---- */
function reader(snapshot) {
  return point => {
    const r = snapshot && snapshot.readings[point];
    return r && r.quality === "good" ? r.value : null;
  };
}
function sources(value) {
  const out = [{ id: site.grid.id, kind: "grid", p: value(site.grid.id + ".p_kw"), note: gridNote(value) }];
  for (const a of site.pv) out.push({ id: a.id, kind: "pv", p: value(a.id + ".p_kw"), note: pvNote(a, value) });
  for (const a of site.bess) {
    const soc = value(a.id + ".soc"), state = value(a.id + ".state");
    out.push({ id: a.id, kind: "bess", p: value(a.id + ".p_kw"), soc, note: BESS[state] || "state unknown" });
  }
  for (const a of site.gensets) {
    out.push({ id: a.id, kind: "genset", p: value(a.id + ".p_kw"), note: GENSET[value(a.id + ".state")] || "state unknown" });
  }
  return out;
}
function gridNote(value) {
  const v = value(site.grid.id + ".v_pu"), closed = value(site.grid.id + ".breaker_closed");
  return (v === null ? "voltage unknown" : number(v * 100, 1) + " % V") + (closed === 0 ? ", breaker open" : "");
}
function pvNote(a, value) {
  const could = value(a.id + ".p_available_kw"), does = value(a.id + ".p_kw");
  const kept = could !== null && does !== null ? could - does : 0;
  return kept > 0.02 * a.p_ac_kw ? kw(kept) + " curtailed" : "of " + number(a.p_ac_kw) + " kW";
}
function box(svg, x, y, w, item, color) {
  el(svg, "rect", { x, y, width: w, height: 84, rx: 8, class: "box", stroke: color });
  el(svg, "text", { x: x + 12, y: y + 22 }, item.id);
  el(svg, "text", { x: x + 12, y: y + 48, class: "big" }, kw(item.p));
  el(svg, "text", { x: x + 12, y: y + 70, class: "dim" }, item.note);
  if (item.soc !== undefined) {
    el(svg, "rect", { x: x + w - 26, y: y + 12, width: 14, height: 60, rx: 3, fill: "none", stroke: color });
    const h = 56 * Math.max(0, Math.min(1, item.soc || 0));
    el(svg, "rect", { x: x + w - 24, y: y + 70 - h, width: 10, height: h, rx: 2, fill: color });
    el(svg, "text", { x: x + w - 32, y: y + 22, class: "dim", "text-anchor": "end" },
      item.soc === null ? "–" : number(item.soc * 100) + " %");
  }
}
function wire(svg, x, from, to, item, color) {
  const moving = item.p !== null && Math.abs(item.p) > 0.5;
  const down = item.p >= 0;
  el(svg, "path", { d: down ? `M${x} ${from}V${to}` : `M${x} ${to}V${from}`, stroke: color,
    class: moving ? "wire moves" : "wire", "stroke-width": moving ? 2 + Math.min(6, Math.abs(item.p) / 60) : 1 });
}
function drawFlow(value) {
  const svg = $("flow"); svg.replaceChildren();
  const above = sources(value);
  const below = site.feeders.map(f => ({ id: f.id, kind: "load", p: value(f.id + ".p_kw"),
    note: value(f.id + ".closed") === 0 ? "OPEN (shed)" : "tier " + f.tier }));
  const n = Math.max(above.length, below.length), w = 190, gap = 20, width = n * (w + gap) - gap;
  svg.setAttribute("viewBox", `-8 0 ${width + 16} 320`);
  svg.style.maxWidth = width + "px";
  const alive = value("bus.alive"), dead = alive === 0;
  el(svg, "path", { d: `M0 160H${width}`, class: dead ? "bus dead" : "bus" });
  const v = value("bus.v_pu");
  el(svg, "text", { x: width, y: 182, class: "dim", "text-anchor": "end" },
    dead ? "bus DEAD" : "bus" + (v === null ? "" : " " + number(v * 100, 1) + " % V"));
  const place = (items, i) => (width - items.length * (w + gap) + gap) / 2 + i * (w + gap);
  above.forEach((s, i) => {
    const x = place(above, i);
    box(svg, x, 4, w, s, COLOR[s.kind]); wire(svg, x + w / 2, 88, 157, s, COLOR[s.kind]);
  });
  below.forEach((s, i) => {
    const x = place(below, i);
    box(svg, x, 230, w, s, COLOR.load); wire(svg, x + w / 2, 163, 230, s, COLOR.load);
  });
}

/* ---- plan ---- */
function planSeries(p) {
  const rows = [{ name: p.grid_p_kw && "grid", kind: "grid", v: p.grid_p_kw }];
  for (const [id, v] of Object.entries(p.pv_p_kw)) rows.push({ name: id, kind: "pv", v });
  for (const [id, v] of Object.entries(p.bess_p_kw)) rows.push({ name: id, kind: "bess", v });
  for (const [id, v] of Object.entries(p.genset_p_kw)) rows.push({ name: id, kind: "genset", v });
  return rows;
}
function drawPlan(answer) {
  const svg = $("plan"), note = $("plan-note"), legend = $("legend");
  svg.replaceChildren(); legend.replaceChildren();
  if (!answer) { note.textContent = "none was ever published; the edge follows its rules"; return; }
  const p = answer.plan, t0 = Date.parse(p.grid.start);
  note.textContent = `${p.plan_id}, ${p.label}, issued ${local(p.issued_at)}` +
    (answer.valid ? "" : " – RUN OUT: the edge follows its rules");
  const starts = answer.step_starts.map(s => (Date.parse(s) - t0) / 3.6e6);
  const ends = starts.map((s, i) => s + p.grid.step_s[i] / 3600);
  const n = Math.max(1, ends.findIndex(e => e > 24) === -1 ? ends.length : ends.findIndex(e => e > 24));
  const rows = planSeries(p), H = 230, W = 1000, left = 48, right = 42, span = ends[n - 1];
  let top = 1, low = 0;
  for (let i = 0; i < n; i++) {
    let up = 0, down = 0;
    for (const r of rows) if (r.v[i] > 0) up += r.v[i]; else down += r.v[i];
    top = Math.max(top, up); low = Math.min(low, down);
  }
  const x = h => left + (W - left - right) * h / span, y = v => 8 + H * (top - v) / (top - low);
  svg.setAttribute("viewBox", `0 0 ${W} ${H + 40}`);
  const step = niceStep((top - low) / 7);
  for (let v = Math.ceil(low / step) * step; v <= top; v += step) {
    el(svg, "path", { d: `M${left} ${y(v)}H${W - right}`, class: "axis" });
    el(svg, "text", { x: left - 6, y: y(v) + 4, class: "dim", "text-anchor": "end" }, number(v));
  }
  el(svg, "text", { x: 0, y: H + 30, class: "dim" }, "kW");
  for (let i = 0; i < n; i++) {
    let up = 0, down = 0;
    for (const r of rows) {
      const v = r.v[i]; if (!v) continue;
      const from = v > 0 ? up : down; if (v > 0) up += v; else down += v;
      el(svg, "rect", { x: x(starts[i]), width: Math.max(.5, x(ends[i]) - x(starts[i]) - .6), y: y(Math.max(from, from + v)),
        height: Math.max(0, y(Math.min(from, from + v)) - y(Math.max(from, from + v))), fill: COLOR[r.kind], opacity: .85 });
    }
  }
  for (let h = 0; h <= span; h += Math.max(1, Math.round(span / 8))) {
    el(svg, "text", { x: x(h), y: H + 30, class: "dim", "text-anchor": "middle" },
      local(new Date(t0 + h * 3.6e6).toISOString(), false));
  }
  for (const [id, soc] of Object.entries(p.bess_soc_end)) {
    const ys = s => 8 + H * (1 - s);
    const d = soc.slice(0, n).map((s, i) => `${i ? "L" : "M"}${x(ends[i]).toFixed(1)} ${ys(s).toFixed(1)}`).join("");
    el(svg, "path", { d, fill: "none", stroke: "var(--ink)", "stroke-width": 2 });
    key(legend, "var(--ink)", id + " SoC (right, %)");
  }
  for (const s of [0, .5, 1]) el(svg, "text", { x: W - right + 6, y: 12 + H * (1 - s), class: "dim" }, number(s * 100));
  for (const r of rows) key(legend, COLOR[r.kind], r.name);
}
function niceStep(raw) {
  const base = 10 ** Math.floor(Math.log10(Math.max(raw, 1e-6)));
  return [1, 2, 5, 10].map(k => k * base).find(s => s >= raw);
}
function key(parent, color, text) {
  const item = el(parent, "span"); el(item, "i", { style: "background:" + color }); item.append(text);
}

/* ---- inputs from elsewhere ---- */
const VALUES_MS = 30000;
let valuesAt = -Infinity;
const day = iso => iso ? new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "2-digit", timeZone: site.timezone })
  .format(new Date(iso)) + " " + local(iso, false) : "";
const age = s => s === null ? "" : s < 120 ? number(s) + " s" : s < 7200 ? number(s / 60) + " min"
  : s < 172800 ? number(s / 3600, 1) + " h" : number(s / 86400, 1) + " d";
function drawInputs(answer) {
  const body = $("inputs"), bad = answer.inputs.filter(i => i.state !== "fresh").length;
  $("inputs-card").hidden = !answer.inputs.length; body.replaceChildren();
  $("inputs-note").textContent = [bad ? `${bad} of ${answer.inputs.length} not fresh` : "", answer.overrun]
    .filter(Boolean).join("; ");
  for (const i of answer.inputs) {
    const row = el(body, "tr"), cell = (text, c) => el(row, "td", c ? { class: c } : {}, text);
    const why = [i.late, i.trouble, i.failed, i.refused].filter(Boolean).map(t => t.split("\n")[0]).join("; ");
    cell(i.input); cell(i.state + (why ? ": " + why : ""), i.state === "fresh" ? "fresh" : "bad"); cell(i.kind); cell(i.source, "wrap");
    cell(i.version === null ? "–" : i.version, "n"); cell(day(i.issued_at), "t"); cell(age(i.age_s), "n");
    cell(day(i.reaches), "t"); cell(i.used_for);
  }
}
function drawTold(answer) {
  const svg = $("told"), legend = $("told-legend"), p = answer.prices;
  svg.replaceChildren(); legend.replaceChildren();
  const outages = answer.outages.filter(o => !o.cancelled);
  svg.hidden = !p && !outages.length;
  if (svg.hidden) return;
  const W = 1000, H = 150, left = 48, right = 12, now = Date.parse(answer.at);
  const t0 = p ? Date.parse(p.start) : now - 3 * 3.6e6, t1 = p ? t0 + p.import_per_kwh.length * p.step_s * 1e3 : now + 36 * 3.6e6;
  const x = t => left + (W - left - right) * (Math.min(t1, Math.max(t0, t)) - t0) / (t1 - t0);
  svg.setAttribute("viewBox", `0 0 ${W} ${H + 40}`);
  for (const o of outages) {
    const a = x(Date.parse(o.start)), b = x(Date.parse(o.end));
    if (b <= a) continue;
    const band = el(svg, "rect", { x: a, y: 8, width: b - a, height: H, class: o.planned_with ? "out" : "out unsure" });
    el(band, "title", {}, `${o.input}.${o.id}: ${day(o.start)} to ${day(o.end)}, ${o.certainty}, issued ${day(o.issued_at)}`);
    el(svg, "text", { x: a + 3, y: 22, class: "dim" }, `${o.id} (${o.certainty})`);
  }
  if (p) pricePlot(svg, p, t0, x, H, W, left, right);
  for (let t = Math.ceil(t0 / 1.44e7) * 1.44e7; t < t1; t += 1.44e7) {
    el(svg, "text", { x: x(t), y: H + 30, class: "dim", "text-anchor": "middle" }, local(new Date(t).toISOString(), false));
  }
  el(svg, "path", { d: `M${x(now)} 8V${H + 8}`, class: "now" });
  if (p) { key(legend, "var(--price)", `import, ${p.currency}/kWh (dashed: nobody told it, the tariff's)`); key(legend, "var(--pv)", "export"); }
  if (outages.length) key(legend, "var(--grid)", "announced outage (pale: not planned with)");
}
function pricePlot(svg, p, t0, x, H, W, left, right) {
  const all = [...p.import_per_kwh, ...p.export_per_kwh, 0], top = Math.max(...all), low = Math.min(...all);
  const y = v => 8 + H * (top - v) / Math.max(1e-9, top - low), step = niceStep((top - low) / 4);
  for (let v = Math.ceil(low / step) * step; v <= top + 1e-9; v += step) {
    el(svg, "path", { d: `M${left} ${y(v)}H${W - right}`, class: "axis" });
    el(svg, "text", { x: left - 6, y: y(v) + 4, class: "dim", "text-anchor": "end" }, number(v, step < .1 ? 2 : 1));
  }
  for (const [side, color] of [["export", "var(--pv)"], ["import", "var(--price)"]]) {
    const values = p[side + "_per_kwh"], versions = p[side + "_version"], at = i => x(t0 + i * p.step_s * 1e3).toFixed(1);
    for (const told of [true, false]) {
      let d = "", joined = false;
      values.forEach((v, i) => {
        const here = (versions[i] !== null) === told;
        if (here) d += `${joined ? "L" : "M"}${at(i)} ${y(v).toFixed(1)}H${at(i + 1)}`;
        joined = here;
      });
      if (d) el(svg, "path", { d, fill: "none", stroke: color, "stroke-width": told ? 2.2 : 1.3,
        ...(told ? {} : { "stroke-dasharray": "4 4" }) });
    }
  }
}

/* ---- why ---- */
const UNTOLD = ["unavailable", "commitment"];
function drawWhy(answer, plan) {
  const body = $("why"), note = $("why-note"); body.replaceChildren();
  if (!answer) { note.textContent = plan ? `${plan.plan.plan_id} is not explained, or not yet` : ""; return; }
  const e = answer.explanation, row = (code, text) => {
    const line = el(body, "tr"); el(line, "td", { class: "t" }, code); el(line, "td", {}, text);
  };
  note.textContent = [`${answer.plan_id}: each sentence was found by changing what it names and solving again`,
    ...e.notes].join("; ");
  for (const c of e.conflicts) row("missed", c.sentence);
  for (const c of e.commitments) row(c.code, c.sentence);
  for (const w of e.setpoints.filter(told)) row(w.code, w.sentence);
}
function told(w) {
  const served = w.quantity === "shed_kw" && w.p_kw < 0.05;
  return !UNTOLD.includes(w.code) && !served && !(site.pv.some(v => v.id === w.asset) && w.sentence.includes("is used in full"));
}

/* ---- alarms and ladder ---- */
function drawAlarms(answer) {
  const body = $("alarms"), hidden = answer.alarms.filter(a => a.shelved || a.removed || a.suppressed_by);
  body.replaceChildren();
  const standing = answer.alarms.filter(a => !hidden.includes(a));
  const counts = Object.entries(answer.by_priority).filter(([, n]) => n).map(([p, n]) => n + " " + p);
  const states = Object.entries(answer.by_state).filter(([s, n]) => n && OUT_OF_SIGHT.includes(s));
  $("alarms-note").textContent = [counts.join(", ") || "none stands",
    ...states.map(([s, n]) => n + " " + s.replaceAll("_", " "))].join("; ");
  for (const a of [...standing, ...hidden.filter(a => !a.suppressed_by)]) {
    const row = el(body, "tr", { class: a.priority + " " + a.state });
    const rank = el(row, "td", { class: "rank" });
    el(rank, "i"); rank.append(a.priority);
    el(row, "td", { class: "t" }, a.raised_at ? local(a.raised_at) : "");
    el(row, "td", {}, a.state.replaceAll("_", " ") + (a.activations > 1 ? ` (${a.activations} times)` : ""));
    el(row, "td", {}, a.text); el(row, "td", {}, holdText(a) || a.response);
  }
}
const OUT_OF_SIGHT = ["shelved", "suppressed_by_design", "out_of_service"];
function holdText(a) {
  const hold = a.removed || a.shelved;
  return hold && `${hold.why} (${hold.who}${hold.until ? ", until " + local(hold.until, false) : ""})`;
}
function drawLadder(answer) {
  const chip = $("rung"), at = answer.rungs.findIndex(r => r.rung === answer.rung);
  chip.textContent = at < 0 ? "rung unknown" : "rung: " + answer.rungs[at].title;
  chip.title = answer.reason || "";
  chip.className = at < 0 || at > 2 ? "chip bad" : at === 0 ? "chip ok" : "chip";
}

function drawReserve(answer) {
  const body = $("reserve"), losses = answer.contingencies; body.replaceChildren();
  $("reserve-note").textContent = answer.required_kw === null ? "not told"
    : `${kw(answer.held_kw)} held of ${kw(answer.required_kw)} required` + (answer.short_kw > 0 ? `, short by ${kw(answer.short_kw)}` : "");
  for (const c of losses || []) {
    const row = el(body, "tr"), short = c.verdict === "short";
    el(row, "td", {}, `${c.name} (${c.kind.replaceAll("_", " ")})`); el(row, "td", { class: "n" }, kw(c.lost_kw));
    el(row, "td", { class: "n" }, c.held_kw === null ? "no bound" : kw(c.held_kw));
    el(row, "td", short && c.required ? { class: "bad" } : {}, short ? "SHORT by " + kw(c.short_kw) : "covered");
    el(row, "td", {}, c.required ? "required" : "shown"); el(row, "td", {}, c.by.join(", "));
  }
  if (!losses || !losses.length) el(el(body, "tr"), "td", { colspan: 6 },
    losses ? "no loss is judged now" : "the edge tells of no loss");
}
function drawControl(answer) {
  const chip = $("control"), others = Object.entries(answer.devices).filter(([, m]) => m !== answer.plant);
  const waiting = answer.rules ? Object.keys(answer.rules.proposals).length : 0;
  chip.textContent = answer.plant === null ? "control unknown" : "control: " + answer.plant
    + others.map(([d, m]) => `, ${d} ${m}`).join("") + (waiting ? `, ${waiting} to confirm` : "");
  chip.title = answer.rules
    ? Object.entries(answer.rules.devices).map(([d, x]) => `${d}: ${x.mode} (${x.why})`).join("\n") : "";
  const bad = answer.held_safe || answer.plant === null || answer.plant === "off" || answer.requests_refused;
  chip.className = bad ? "chip bad" : answer.plant === "auto" && !others.length ? "chip ok" : "chip";
}

/* ---- tables ---- */
function drawCommands(answer) {
  const body = $("commands"); body.replaceChildren();
  const told = answer.commands.filter(c => c.cause !== "refresh" || c.refused_code !== null);
  for (const c of told.slice(0, ROWS)) {
    const row = el(body, "tr");
    el(row, "td", { class: "t" }, local(c.at)); el(row, "td", {}, c.point);
    el(row, "td", { class: "n" }, number(c.value, 1)); el(row, "td", {}, c.cause); el(row, "td", {}, c.reason);
    const refused = c.refused_code !== null;
    el(row, "td", refused || (c.outcome && c.outcome !== "confirmed") ? { class: "bad" } : {},
      refused ? "refused: " + c.refused_code : c.outcome || "in flight");
  }
  if (!told.length) el(el(body, "tr"), "td", { colspan: 6 }, "nothing but refreshes in the last hour");
}
function drawEvents(answer) {
  const body = $("events"); body.replaceChildren();
  for (const e of answer.events) {
    const row = el(body, "tr");
    el(row, "td", { class: "t" }, local(e.at)); el(row, "td", {}, e.kind);
    el(row, "td", {}, pairs(e.fields));
  }
  if (!answer.events.length) el(el(body, "tr"), "td", {}, "none in the last hour");
}
function drawReady(answer) {
  const chip = $("ready"); chip.textContent = answer.ready ? "data is current" : "data is NOT current";
  chip.className = answer.ready ? "chip ok" : "chip bad";
  $("notes").textContent = [...answer.reasons, ...answer.notes].join("; ");
  const body = $("processes"); body.replaceChildren();
  for (const p of answer.processes) {
    const row = el(body, "tr");
    el(row, "td", {}, p.process); el(row, "td", { class: "n" }, number(p.age_s, 0) + " s ago");
    el(row, "td", {}, pairs(p.fields));
  }
}
function drawMode(condition, at) {
  const chip = $("mode"), mode = condition ? condition.grid_mode : "unknown";
  chip.textContent = mode.replace("_", " ") + (condition && condition.forming ? ", formed by " + condition.forming : "");
  chip.className = mode === "grid_tied" ? "chip ok" : mode === "islanded" ? "chip" : "chip bad";
  $("clock").textContent = local(at) + " " + site.timezone;
}

async function refresh() {
  try {
    site = site || await get("/api/v1/site");
    document.title = $("site").textContent = site.name;
    const [snapshot, condition, plan, why, commands, events, ready, alarms, ladder, authority, reserve] = await Promise.all([
      get("/api/v1/snapshot"), get("/api/v1/condition"), get("/api/v1/plan"),
      get("/api/v1/plan/explanation?present=true"),
      get("/api/v1/commands?limit=200"), get("/api/v1/events?limit=" + ROWS), get("/ready"),
      get("/api/v1/alarms?hidden=true"), get("/api/v1/ladder"), get("/api/v1/authority"), get("/api/v1/reserve")]);
    drawFlow(reader(snapshot)); drawPlan(plan); drawWhy(why, plan); drawCommands(commands); drawEvents(events);
    drawReady(ready); drawAlarms(alarms); drawLadder(ladder); drawControl(authority); drawReserve(reserve); drawMode(condition, snapshot.at);
    const inputs = await get("/api/v1/inputs");
    drawInputs(inputs);
    if (inputs.inputs.length && Date.now() - valuesAt > VALUES_MS) {
      drawTold(await get("/api/v1/inputs/values"));
      valuesAt = Date.now();
    }
    $("trouble").hidden = true;
  } catch (error) {
    $("trouble").textContent = "No fresh data: " + error.message; $("trouble").hidden = false;
  }
  setTimeout(refresh, PERIOD_MS);
}
refresh();
