// The page asks the server and shows what it says. Every text becomes a text node, never markup.
"use strict";

const PAGE_SIZE = 48;
const BARS = 10;
const SHOWN = 6;
let run;
const chosen = { query: null, clusters: new Set(), classes: new Set(), samples: new Set(), replay: 0 };
let offset = 0, query = null, outcome = null, jobs = [];

// ---- small helpers

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "width") element.style.width = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const fill = (id, ...children) => $(id).replaceChildren(...children.flat().filter((child) => child !== null));
const percent = (value) => value === null ? "–" : `${(100 * value).toFixed(1)}%`;
const className = (label) => run.classes[label];
const plural = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
const seconds = (value) => value < 1 ? `${Math.max(0.1, value).toFixed(1)} s` : value < 90 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`;
const number = (value) => Math.abs(value) >= 1e-3 || value === 0 ? value.toPrecision(3) : value.toExponential(1);
const figure = (value, text = percent(value)) => make("span", { "data-value": value }, text);

let hiding;
function complain(message) {
  $("alert").textContent = message;
  $("alert").hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { $("alert").hidden = true; }, 9000);
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer; was `ddm serve` stopped?");
  }
  if (response.status === 403) throw new Error(await response.text());
  const value = await response.json();
  if (!response.ok) throw new Error(value.error);
  return value;
}

const send = (path, value) => ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) });

// An action whose error becomes a message.
const guarded = (action) => async (...given) => {
  try {
    return await action(...given);
  } catch (error) {
    complain(error.message);
    return undefined;
  }
};

// Runs an action again after it ends if it was asked for meanwhile, and never twice at once: late answers cannot
// overtake newer ones, and a row of quick ticks costs two networks.
function latest(action) {
  let busy = false, again = false;
  return async () => {
    if (busy) { again = true; return; }
    busy = true;
    do {
      again = false;
      await guarded(action)();
    } while (again);
    busy = false;
  };
}

// ---- what is chosen, in the address so that it survives a reload; each tab has its own

const nothingTicked = () => !chosen.clusters.size && !chosen.classes.size && !chosen.samples.size;
const ticked = () => ({ clusters: [...chosen.clusters], classes: [...chosen.classes], samples: [...chosen.samples], replay: chosen.replay });

function remember() {
  const told = new URLSearchParams();
  if (chosen.query) told.set("query", chosen.query);
  for (const name of ["clusters", "classes", "samples"]) if (chosen[name].size) told.set(name, [...chosen[name]].join(","));
  if (chosen.replay !== run.replay) told.set("replay", chosen.replay);
  history.replaceState(null, "", `/#${told}`);
}

function recall() {
  const told = new URLSearchParams(location.hash.slice(1));
  const limits = { clusters: run.num_clusters, classes: run.classes.length, samples: run.num_samples };
  for (const [name, count] of Object.entries(limits)) {
    const ids = (told.get(name) || "").split(",").filter((each) => /^\d+$/.test(each)).map(Number);
    chosen[name] = new Set(ids.filter((each) => each < count));
  }
  const replay = Number(told.get("replay") ?? run.replay);
  chosen.replay = run.replays.includes(replay) ? replay : run.replay;
  chosen.query = told.get("query");
}

function tick(kind, id, wanted = !chosen[kind].has(id)) {
  if (wanted) chosen[kind].add(id); else chosen[kind].delete(id);
  tickedChanged();
}

function tickedChanged() {
  $("exported").textContent = "";
  remember();
  showTicked();
  for (const box of document.querySelectorAll("input[data-kind]")) box.checked = chosen[box.dataset.kind].has(Number(box.dataset.id));
  estimate();
}

// ---- queries

function filters() {
  const told = new URLSearchParams({ text: $("text").value, wrong: $("wrong").checked, order: $("order").value, offset, limit: PAGE_SIZE });
  for (const id of ["predicted", "labelled"]) if ($(id).value) told.set(id, $(id).value);
  for (const id of ["least", "most"]) if ($(id).value) told.set(id, Math.min(1, Math.max(0, Number($(id).value) / 100)));
  return told;
}

const list = latest(async () => {
  const found = await ask(`/api/queries?${filters()}`);
  if (offset >= found.total && offset > 0) { offset = 0; list(); return; }
  const last = offset + found.items.length;
  $("count").textContent = found.total ? `${offset + 1}–${last} of ${found.total.toLocaleString("en")}` : "none passes these filters";
  $("back").disabled = offset === 0;
  $("forth").disabled = last >= found.total;
  fill("grid", found.items.map((item) => make("li", {}, queryButton(item, [
    make("span", { class: item.predicted === item.label ? "" : "wrong" }, className(item.predicted), " ", percent(item.confidence)),
    make("span", { class: "name" }, item.name),
  ]))));
});

function queryButton(item, told) {
  const words = `${item.name}: predicted ${className(item.predicted)}, labelled ${className(item.label)}`;
  return make("button", {
    type: "button", title: words, "data-query": item.key, "aria-current": String(item.key === chosen.query), onclick: () => choose(item.key),
  }, make("img", { src: item.picture, alt: words }), told);
}

function choose(key) {
  chosen.query = key;
  remember();
  for (const each of document.querySelectorAll("[data-query]")) each.setAttribute("aria-current", String(each.dataset.query === key));
  showQuery();
  estimate();
}

const upload = guarded(async (file) => {
  if (!file) return;
  const found = await ask(`/api/images?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
  choose(found.key);
});

// ---- one query

const showQuery = latest(async () => {
  const key = chosen.query;
  if (!key) return;
  $("query").setAttribute("aria-busy", "true");
  try {
    if (!query || query.key !== key) query = await ask(`/api/queries/${encodeURIComponent(key)}`);
  } catch (error) {
    query = null;
    fill("answer", make("p", { class: "hint" }, error.message));
    return;
  } finally {
    $("query").removeAttribute("aria-busy");
  }
  drawQuery();
});

function drawQuery() {
  if (!query) return;
  const wrong = query.label !== null && query.label !== query.predicted;
  const told = `predicted ${className(query.predicted)} (${percent(query.probabilities[query.predicted])})`;
  fill("answer",
    make("div", { class: "subject" },
      make("img", { src: query.picture, alt: query.name }),
      make("div", {},
        make("p", { class: "told" }, `${query.name}: ${told}`, query.label === null ? "" : `, labelled ${className(query.label)}`,
          wrong ? make("span", { class: "badge" }, "error") : null),
        make("div", { id: "bars" }))),
    make("div", { class: "sides" }, query.sides.map(side)),
    matrix());
  drawBars();
}

// Probabilities of the network as it is, without what is ticked, and of the retrained one.
function drawBars() {
  if (!query || !$("bars")) return;
  const current = outcome && outcome.query === query.key ? outcome : null;
  const shown = [["now", "as it is", query.probabilities]];
  if (current && current.estimate.query) shown.push(["estimate", "without, by this estimate", current.estimate.query]);
  if (current && current.truth && current.truth.query) shown.push(["truth", "without, retrained", current.truth.query]);
  const most = query.probabilities.map((_, label) => Math.max(...shown.map(([, , values]) => values[label])));
  const labels = [...most.keys()].sort((a, b) => most[b] - most[a]).slice(0, BARS);
  fill("bars",
    shown.length > 1 ? make("p", { class: "legend" }, shown.map(([kind, words]) => make("span", { class: `is-${kind}` }, words))) : null,
    make("ul", { class: "bars" }, labels.map((label) => make("li", { "data-class": label },
      make("span", { class: "class", title: className(label) }, className(label)),
      make("span", { class: "tracks" }, shown.map(([kind, , values]) => bar(kind, values[label]))),
      make("span", { class: "values" }, shown.map(([, , values]) => figure(values[label])))))));
}

const bar = (kind, share) => make("span", { class: "track" }, make("i", { class: kind, width: `${100 * Math.min(1, share)}%` }));

function side(found) {
  const said = className(query.predicted);
  const words = { made: `made it say ${said}`, against: "spoke against it", moved: "moved it most" }[found.did];
  const peak = Math.max(...query.sides.flatMap((each) => each.items.map((item) => Math.abs(item.effect))), 1e-30);
  const items = found.items.map((item) => clusterRow(item, peak));
  const rest = items.slice(SHOWN);
  return make("div", { "data-side": found.did },
    make("h3", {}, make("span", {}, words, found.tied ? make("span", { class: "badge plain", title: "the first two are nearly tied" }, "near tie") : null),
      make("span", { class: "hint" }, `change of ${query.objective}`)),
    items.length ? make("ul", { class: "named" }, items.slice(0, SHOWN)) : make("p", { class: "hint" }, "no cluster did"),
    rest.length ? make("details", {}, make("summary", {}, `${rest.length} more of ${found.total}`), make("ul", { class: "named" }, rest)) : null);
}

function clusterRow(item, peak) {
  const name = `${className(item.class)} · cluster ${item.cluster}`;
  const adds = item.support === null ? "" : `; it adds ${number(item.support)} to the probability of ${className(query.predicted)}`;
  return make("li", { title: `${query.objective} without it: ${number(item.effect)}${adds}` },
    tickBox("clusters", item.cluster, `leave out ${name}`),
    make("button", { type: "button", onclick: () => openMembers(item.cluster) },
      make("img", { class: "strip", src: item.strip, alt: `training images of ${name}` }),
      make("span", { class: "name" }, `${name} (${plural(item.size, "image")})`)),
    make("span", { class: "amount" }, figure(item.effect, number(item.effect)),
      bar(item.effect < 0 ? "negative" : "positive", Math.abs(item.effect) / peak)),
    item.amount === null ? null : amount(item.amount));
}

// The probability of what the network says without a cluster, where a certificate knows how wrong it may be.
function amount({ value, interval, level, retrained }) {
  const told = retrained ? ["retrained"] : [Math.round(100 * level), "%: ", figure(interval[0]), " to ", figure(interval[1])];
  return make("span", { class: "probability" }, make("b", {}, className(query.predicted)), retrained ? " without it " : " without it about ", figure(value), " (", ...told, ")");
}

const tickBox = (kind, id, words) => make("input", {
  type: "checkbox", "data-kind": kind, "data-id": id, "aria-label": words, checked: chosen[kind].has(id), onchange: (event) => tick(kind, id, event.target.checked),
});

function matrix() {
  const { picture, low, high, values } = query.matrix;
  const cluster = (event) => Math.min(values.length - 1, Math.floor(event.offsetX / event.target.clientWidth * values.length));
  const image = make("img", {
    src: picture, alt: "W: what each cluster adds to the probability of each class",
    onmousemove: (event) => { event.target.title = `cluster ${cluster(event)}`; },
    onclick: (event) => openMembers(cluster(event)),
  });
  return make("details", { class: "matrix" },
    make("summary", {}, "W: how much each cluster adds to the probability of each class"),
    make("div", { class: "cells" },
      make("div", { class: "rows" }, run.classes.map((name) => make("span", { title: name }, name))),
      image,
      make("p", {}, `from ${number(low)} to ${number(high)}; clusters 0 to ${values.length - 1} from left to right`)));
}

// ---- members of a cluster

let opened = null;

const openMembers = guarded(async (cluster) => {
  opened = { cluster, next: 0, query: chosen.query };
  fill("members-grid");
  await moreMembers();
  if (!$("members").open) $("members").showModal();
});

async function moreMembers() {
  const asked = new URLSearchParams({ offset: opened.next, ...(opened.query ? { query: opened.query } : {}) });
  const found = await ask(`/api/clusters/${opened.cluster}?${asked}`);
  opened.next += found.items.length;
  const whose = opened.query ? "the cluster's effect on this image" : "the cluster's effect";
  $("members-told").textContent = found.has_shares
    ? `Rough shares of ${whose}, the largest first: estimates, good for an order and no more. Tick what to leave out.`
    : `No shares of ${whose} are known. Those that the network has most trouble with come first. Tick what to leave out.`;
  fill("members-heading", `${className(found.class)} · cluster ${found.cluster}, ${plural(found.size, "image")} `,
    make("label", { class: "tick badge plain" }, tickBox("clusters", found.cluster, `leave out cluster ${found.cluster}`), "leave out all"));
  $("members-grid").append(...found.items.map((item) => make("li", {}, make("label", { title: `${item.file || item.name}: predicted ${className(item.predicted)}` },
    tickBox("samples", item.sample, `leave out ${item.name}`),
    make("img", { src: item.picture, alt: item.name }),
    item.share === null ? null : make("span", { class: "share" }, "roughly ", figure(item.share, `${Math.round(100 * item.share)}%`)),
    make("span", { class: item.predicted === found.class ? "" : "wrong" }, `loss ${number(item.loss)}`),
    make("span", { class: "name" }, item.file ? item.file.split(/[\\/]/).pop() : item.name)))));
  $("more").hidden = opened.next >= found.size;
}

// ---- what if

function showTicked() {
  const chip = (kind, id, words) => make("button", { type: "button", "aria-label": `keep ${words}`, "data-chip": `${kind}:${id}`, onclick: () => tick(kind, id, false) }, `${words} ✕`);
  const chips = [
    ...[...chosen.classes].map((id) => chip("classes", id, `class ${className(id)}`)),
    ...[...chosen.clusters].map((id) => chip("clusters", id, `cluster ${id}`)),
    ...[...chosen.samples].slice(0, 30).map((id) => chip("samples", id, `train ${id}`)),
  ];
  if (chosen.samples.size > 30) chips.push(make("span", { class: "hint" }, `and ${plural(chosen.samples.size - 30, "more sample")}`));
  const clear = make("button", { type: "button", class: "clear", onclick: () => {
    for (const kind of ["clusters", "classes", "samples"]) chosen[kind].clear();
    tickedChanged();
  } }, "clear");
  fill("ticked", chips.length ? [...chips, clear] : make("p", { class: "hint" }, "Tick clusters beside a query, members of a cluster, or whole classes."));
  fill("classes", run.classes.map((name, label) => make("button", {
    type: "button", "aria-pressed": String(chosen.classes.has(label)), title: plural(run.class_sizes[label], "image"), onclick: () => tick("classes", label),
  }, name)));
  $("retrain").disabled = $("export").disabled = nothingTicked();
  $("retrain").hidden = !run.can_retrain;
}

function showDial() {
  const place = Number($("replay").value), epochs = run.replays[place];
  const told = epochs === 0 ? "none: the synset's step alone" : epochs === run.epochs ? `all ${run.epochs} epochs: exact retraining` : `the last ${epochs} of ${run.epochs} epochs`;
  $("replay-told").textContent = told;
  $("replay-cost").textContent = epochs ? `about ${seconds(epochs * run.seconds_per_epoch)} for each new answer` : "a fraction of a second for each answer";
}

const estimate = latest(async () => {
  outcome = nothingTicked() ? null : outcome;
  if (nothingTicked()) {
    drawOutcome();
    drawBars();
    return;
  }
  const asked = { ...ticked(), query: chosen.query };
  $("outcome").classList.add("busy");
  $("outcome").setAttribute("aria-busy", "true");
  try {
    const found = await send("/api/without", asked);
    outcome = { ...found, query: asked.query, asked: JSON.stringify(asked) };
    run.seconds_per_epoch = found.seconds_per_epoch;
  } catch (error) {
    outcome = null;
    throw error;
  } finally {
    $("outcome").classList.remove("busy");
    $("outcome").removeAttribute("aria-busy");
    showDial();
    drawOutcome();
    drawBars();
  }
});

function drawOutcome() {
  $("export-retrained").hidden = !(outcome && outcome.truth);
  if (!outcome) {
    fill("outcome");
    delete $("outcome").dataset.asked;
    delete $("outcome").dataset.retrained;
    return;
  }
  const { before, estimate: by, truth, changed } = outcome;
  $("outcome").dataset.asked = outcome.asked;
  $("outcome").dataset.retrained = String(Boolean(truth));
  fill("outcome",
    make("dl", { class: "headline" },
      make("div", {}, make("dt", {}, "test accuracy"), make("dd", { id: "accuracy-before" }, figure(before.accuracy))),
      make("div", {}, make("dt", {}, "without"), make("dd", { id: "accuracy-estimate", class: "estimate-ink" }, figure(by.accuracy))),
      truth ? make("div", {}, make("dt", {}, "retrained"), make("dd", { id: "accuracy-truth", class: "truth-ink" }, figure(truth.accuracy))) : null),
    make("p", { class: "hint" }, `Without ${plural(outcome.num_left_out, "training image")} of ${run.num_samples.toLocaleString("en")}, answered in ${outcome.seconds.toFixed(2)} s.`,
      truth ? ` ${compared(truth)}` : ""),
    make("h3", {}, changed.total ? `${plural(changed.total, "test image")} of ${outcome.num_test.toLocaleString("en")} would be read otherwise` : "No test image would be read otherwise"),
    make("ul", { class: "grid", id: "changed" }, changed.items.map((item) => make("li", {}, queryButton(item, [
      make("span", {}, className(item.predicted), " → ", make("b", { class: item.after.predicted === item.label ? "better" : "wrong" }, className(item.after.predicted))),
      make("span", { class: "name" }, item.name),
    ])))),
    changed.total > changed.items.length ? make("p", { class: "hint" }, `the first ${changed.items.length} of them`) : null,
    make("details", { open: run.classes.length <= 12 }, make("summary", {}, "accuracy by class"), byClass(before, by, truth)));
}

function compared(truth) {
  if (!truth.num_either_changed) return "By the estimate and by the retrained network, no test image is read otherwise.";
  return `Retrained, ${plural(truth.num_changed, "test image")} ${truth.num_changed === 1 ? "is" : "are"} read otherwise. Of ${plural(truth.num_either_changed, "image")} that the estimate or the truth changes, they agree on ${truth.num_same}.`;
}

function byClass(before, by, truth) {
  const cell = (value) => make("td", {}, figure(value));
  return make("table", { id: "by-class" },
    make("thead", {}, make("tr", {}, ["class", "now", "without", ...(truth ? ["retrained"] : [])].map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, run.classes.map((name, label) => make("tr", { class: new Set([before, by, truth || by].map((each) => each.by_class[label])).size > 1 ? "moved" : "" },
      make("td", { title: name }, name), cell(before.by_class[label]), cell(by.by_class[label]), truth ? cell(truth.by_class[label]) : null))));
}

// ---- retraining and export

let watching = null;

const watch = guarded(async () => {
  clearTimeout(watching);
  const before = new Map(jobs.map((job) => [job.number, job.state]));
  jobs = await ask("/api/retrainings");
  drawJobs();
  if (jobs.some((job) => job.state === "done" && before.has(job.number) && before.get(job.number) !== "done")) estimate();
  if (jobs.some((job) => ["waiting", "running"].includes(job.state))) watching = setTimeout(watch, 500);
});

function drawJobs() {
  const parts = ({ clusters, classes, samples }) => [
    ...(classes.length ? [`class ${classes.map(className).join(", ")}`] : []),
    ...(clusters.length ? [`cluster ${clusters.join(", ")}`] : []),
    ...(samples.length ? [samples.length === 1 ? `train ${samples[0]}` : plural(samples.length, "sample")] : []),
  ].join("; ");
  const told = (job) => ({ waiting: "waits", running: job.total ? `epoch ${job.done} of ${job.total}` : "begins", done: `done, ${job.seconds.toFixed(1)} s`, failed: job.message, stopped: "stopped" })[job.state];
  const row = (job) => {
    const busy = ["waiting", "running"].includes(job.state);
    return make("li", { "data-job": job.number, "data-state": job.state },
      make("span", {}, `without ${parts(job.left_out)}`, make("span", { class: job.state === "failed" ? "wrong" : "hint" }, ` · ${told(job)}`)),
      busy ? make("button", { type: "button", class: "quiet", "aria-label": "stop", onclick: guarded(async () => { await ask(`/api/retrainings/${job.number}`, { method: "DELETE" }); await watch(); }) }, "stop")
        : make("button", { type: "button", class: "quiet", onclick: () => showJob(job) }, "look"),
      busy ? bar("truth", job.total ? job.done / job.total : 0) : null);
  };
  fill("jobs", jobs.length ? [make("h3", {}, "Retrainings"), make("ul", {}, [...jobs].reverse().map(row))] : []);
}

function showJob(job) {
  for (const kind of ["clusters", "classes", "samples"]) chosen[kind] = new Set(job.left_out[kind]);
  tickedChanged();
}

const retrain = guarded(async () => {
  const { replay, ...what } = ticked();
  const job = await send("/api/retrainings", what);
  jobs = [...jobs.filter((each) => each.number !== job.number), { ...job, state: job.state === "done" ? "done" : "waiting" }];
  if (job.state === "done") estimate();
  await watch();
});

const take = (retrained) => guarded(async () => {
  const found = await send("/api/exports", { ...ticked(), retrained });
  $("exported").textContent = `${found.files.join(", ")} are in ${found.folder}`;
});

// ---- beginning

function theme() {
  const root = document.documentElement;
  const saved = localStorage.getItem("ddm-theme");
  if (saved) root.dataset.theme = saved;
  $("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("ddm-theme", root.dataset.theme);
  });
}

function prepare() {
  document.title = `${run.title} · ddm`;
  $("title").textContent = run.title;
  const facts = { "data set": run.facts["data set"], backbone: run.facts.backbone, "test accuracy": run.facts["test accuracy"], clusters: run.num_clusters };
  if (run.spearman !== null) facts["certificate"] = `rank correlation ${run.spearman.toFixed(2)}` + (run.spearman_interval ? ` (${run.spearman_interval.map((each) => each.toFixed(2)).join(" to ")})` : "");
  fill("facts", Object.entries(facts).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))));
  for (const [id, words] of [["predicted", "read as any"], ["labelled", "labelled any"]]) {
    const what = id === "predicted" ? "read as" : "labelled";
    fill(id, make("option", { value: "" }, words), run.classes.map((name, label) => make("option", { value: label }, `${what} ${name}`)));
  }
  $("number").max = run.num_clusters - 1;
  $("replay").max = run.replays.length - 1;
  $("dial").hidden = run.replays.length < 2;
}

function listen() {
  const filtered = () => { offset = 0; list(); };
  for (const id of ["predicted", "labelled", "order", "wrong", "least", "most"]) $(id).addEventListener("change", filtered);
  let typing;
  $("text").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(filtered, 150); });
  $("filters").addEventListener("submit", (event) => { event.preventDefault(); filtered(); });
  $("back").addEventListener("click", () => { offset = Math.max(0, offset - PAGE_SIZE); list(); });
  $("forth").addEventListener("click", () => { offset += PAGE_SIZE; list(); });
  $("file").addEventListener("change", async (event) => { await upload(event.target.files[0]); event.target.value = ""; });
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.body.addEventListener(name, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", name === "dragover");
      if (name === "drop") upload(event.dataTransfer.files[0]);
    });
  }
  $("replay").addEventListener("input", showDial);
  $("replay").addEventListener("change", () => { chosen.replay = run.replays[Number($("replay").value)]; remember(); estimate(); });
  $("by-number").addEventListener("submit", (event) => {
    event.preventDefault();
    if ($("number").value !== "") tick("clusters", Number($("number").value), true);
    $("number").value = "";
  });
  $("more").addEventListener("click", guarded(moreMembers));
  $("members").addEventListener("click", (event) => { if (event.target === $("members")) $("members").close(); });
  $("retrain").addEventListener("click", retrain);
  $("export").addEventListener("click", take(false));
  $("export-retrained").addEventListener("click", take(true));
}

const begin = guarded(async () => {
  theme();
  if (location.search) history.replaceState(null, "", `/${location.hash}`);
  run = await ask("/api/run");
  prepare();
  recall();
  $("replay").value = run.replays.indexOf(chosen.replay);
  listen();
  showDial();
  showTicked();
  await list();
  if (!chosen.query) chosen.query = document.querySelector("#grid [data-query]")?.dataset.query ?? null;
  if (chosen.query) choose(chosen.query); else estimate();
  await watch();
  document.body.dataset.ready = "true";
});

begin();
