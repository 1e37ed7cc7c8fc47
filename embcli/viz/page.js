// The page's own script: Bokeh draws, moves and selects; here are colours, search and lists.
// Whatever comes from records is put into the page as text (textContent), never as markup.
"use strict";

(async () => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const { ids, texts, columns } = data;
  const count = ids.length;
  const places = new Float32Array(bytes(data.points));
  const x = places.subarray(0, count), y = places.subarray(count);
  for (const column of columns) {
    if (column.numbers) column.numbers = new Float64Array(bytes(column.numbers));
    else column.codes = new Int32Array(bytes(column.codes));
  }
  const LISTED = 200, REACH = 14, SHOWN = 300, LONG_ID = 24, VALUES = 12;

  const [view] = [...(await Bokeh.embed.embed_item(JSON.parse($("plot").textContent), "map"))];
  const plot = view.model;
  const [points, picked] = plot.renderers.map((renderer) => renderer.data_source);
  const [pan, , lasso, box] = plot.toolbar.tools;
  // One stop for the Tab key is enough, and that is the element around Bokeh's.
  view.canvas_view.events_el.tabIndex = -1;

  // What is shown: classes that are hidden, rows that match, rows inside the lasso.
  const state = { column: null, hidden: new Set(), matches: null, inside: null, active: null };

  // ---- colours -------------------------------------------------------------------------------

  const theme = () => data.themes[document.documentElement.dataset.theme];
  const alpha = Math.round(255 * Math.min(0.9, Math.max(0.45, 1.5 - 0.2 * Math.log10(count))));
  const rgba = (hex, opacity) => parseInt(hex.slice(1), 16) * 256 + opacity;
  const classOf = (column, row) => {
    const code = column.codes[row];
    return code < 0 ? "none" : code < column.own ? code : "other";
  };
  const isHidden = (row) =>
    state.hidden.size > 0 && state.hidden.has(classOf(state.column, row));

  function colourOf(key) {
    return typeof key === "number" ? theme().classes[key] : theme().neutral;
  }

  function range(column) {
    if (!column.range) {
      let low = Infinity, high = -Infinity;
      for (const value of column.numbers) {
        if (value < low) low = value;
        if (value > high) high = value;
      }
      column.range = low <= high ? [low, high] : [0, 0];
    }
    return column.range;
  }

  /** Steps of the colour scale, 256 of them. */
  function scale(opacity) {
    const stops = theme().numbers.map((hex) => parseInt(hex.slice(1), 16));
    return Uint32Array.from({ length: 256 }, (_, step) => {
      const at = (step / 255) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
      let mixed = 0;
      for (const shift of [16, 8, 0]) {
        const a = (stops[low] >> shift) & 255, b = (stops[low + 1] >> shift) & 255;
        mixed = mixed * 256 + Math.round(a + (b - a) * (at - low));
      }
      return mixed * 256 + opacity;
    });
  }

  /** The colour of every row, as if nothing were searched or selected. */
  function colours(opacity) {
    const { column } = state, neutral = rgba(theme().neutral, opacity);
    const all = new Uint32Array(count);
    if (!column) return all.fill(rgba(theme().classes[0], opacity));
    if (column.numbers) {
      const [low, high] = range(column), steps = scale(opacity), span = high - low || 1;
      for (let row = 0; row < count; row++) {
        const value = column.numbers[row];
        all[row] = Number.isNaN(value) ? neutral : steps[Math.round((255 * (value - low)) / span)];
      }
      return all;
    }
    const own = theme().classes.map((hex) => rgba(hex, opacity));
    for (let row = 0; row < count; row++) {
      const code = column.codes[row];
      all[row] = code >= 0 && code < column.own ? own[code] : neutral;
    }
    return all;
  }

  function redraw() {
    const { matches, inside } = state, choosing = Boolean(matches || inside);
    const shade = colours(alpha), bright = choosing ? colours(255) : shade;
    const dim = rgba(theme().neutral, count > 20000 ? 26 : 70);
    const chosen = [];
    let shown = 0;
    for (let row = 0; row < count; row++) {
      if (isHidden(row)) { shade[row] = 0; continue; }
      shown++;
      if (!choosing) continue;
      if ((!matches || matches[row]) && (!inside || inside[row])) chosen.push(row);
      shade[row] = dim;
    }
    state.active = choosing ? chosen : null;
    // Those that are chosen lie over all others.
    const taken = (values) => Float32Array.from(chosen, (row) => values[row]);
    hideTip();
    nameWhatIsShown();
    points.data = { x, y, color: shade };
    picked.data = { x: taken(x), y: taken(y), color: Uint32Array.from(chosen, (row) => bright[row]) };
    tell(shown);
  }

  // ---- search, selection and what is said of them ---------------------------------------------

  function tell(shown) {
    const { active } = state, found = $("found");
    const amount = (number) => number.toLocaleString("en");
    const bold = document.createElement("b");
    bold.textContent = amount(active ? active.length : shown);
    const part = active || shown < count;
    found.replaceChildren(bold, ` ${part ? `of ${amount(count)} ` : ""}record${count === 1 ? "" : "s"}`);
    $("picked").hidden = !active;
    if (!active) return;
    const rows = active.slice(0, LISTED).map((row) => {
      const item = document.createElement("li"), button = document.createElement("button");
      // Ids that are paths differ at their ends.
      const id = ids[row].length > LONG_ID ? `…${ids[row].slice(1 - LONG_ID)}` : ids[row];
      button.append(spanned("id", id), texts[row].slice(0, SHOWN));
      button.title = ids[row];
      button.addEventListener("click", () => goTo(row));
      item.append(button);
      return item;
    });
    if (active.length > LISTED) {
      const more = document.createElement("li");
      more.className = "more";
      more.textContent = `and ${amount(active.length - LISTED)} more`;
      rows.push(more);
    }
    $("list").replaceChildren(...rows);
    for (const id of ["copy", "save"]) $(id).disabled = !active.length;
  }

  function search() {
    const text = $("search").value, where = $("where").value;
    state.matches = null;
    if (text) {
      const pattern = new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "iu");
      const matches = (state.matches = new Uint8Array(count));
      const look = (values) => {
        for (let row = 0; row < count; row++) if (pattern.test(values[row])) matches[row] = 1;
      };
      if (where === "texts") { look(texts); look(ids); }
      columns.forEach((column, at) => {
        if (where !== "all" && where !== String(at)) return;
        if (column.numbers) look(Array.from(column.numbers, (value) => written(value)));
        else {
          const good = column.values.map((value) => pattern.test(value));
          for (let row = 0; row < count; row++) if (good[column.codes[row]]) matches[row] = 1;
        }
      });
      if (where === "all") { look(texts); look(ids); }
    }
    redraw();
  }

  function clear() {
    $("search").value = "";
    state.matches = state.inside = null;
    points.selected.indices = [];
    redraw();
  }

  // Bokeh finds the rows, of which those that are hidden are left out when they are drawn.
  plot.on_event("selectiongeometry", (event) => {
    if (!event.final) return;
    const rows = points.selected.indices;
    state.inside = rows.length ? new Uint8Array(count) : null;
    for (const row of rows) state.inside[row] = 1;
    redraw();
  });

  /** A line for each id: in no id can a line end. */
  const lines = () =>
    state.active.map((row) => ids[row].replace(/\n/g, "\\n").replace(/\r/g, "\\r") + "\n").join("");

  async function copy() {
    const said = $("copy").textContent;
    try {
      await navigator.clipboard.writeText(lines());
    } catch {
      const area = document.createElement("textarea");
      area.value = lines();
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    $("copy").textContent = "Copied";
    setTimeout(() => { $("copy").textContent = said; }, 1200);
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines()], { type: "text/plain" }));
    link.download = "ids.txt";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // ---- legend --------------------------------------------------------------------------------

  function colourBy(at) {
    state.column = columns[at] ?? null;
    state.hidden.clear();
    legend();
    showNames();
    redraw();
  }

  function legend() {
    const { column } = state, parts = [];
    $("every").hidden = !state.hidden.size;
    if (column?.numbers) parts.push(...colourBar(column));
    else if (column) {
      if (!column.counts) {
        column.counts = new Map();
        for (let row = 0; row < count; row++) {
          const key = classOf(column, row);
          column.counts.set(key, (column.counts.get(key) ?? 0) + 1);
        }
      }
      const keys = [...Array(column.own).keys(), "other", "none"].filter((key) => column.counts.has(key));
      parts.push(...keys.map((key) => entry(column, key, keys)));
      parts.push(element("p", "hint", "Click: hide or show. Double click: only this one."));
    }
    $("legend").replaceChildren(...parts);
  }

  function entry(column, key, keys) {
    const row = element("div", "class"), show = element("button", "show");
    const name = key === "none" ? "(no value)"
      : key === "other" ? `${(column.values.length - column.own).toLocaleString("en")} others`
      : column.values[key];
    const dot = element("span", "dot");
    dot.style.background = colourOf(key);
    show.append(
      dot, element("span", "name", name), element("span", "count", column.counts.get(key).toLocaleString("en")),
    );
    show.title = name;
    const change = (hidden) => {
      state.hidden = new Set(hidden);
      // The buttons stay, so that the keyboard's focus does.
      for (const [at, button] of [...$("legend").querySelectorAll(".show")].entries()) {
        button.setAttribute("aria-pressed", String(!state.hidden.has(keys[at])));
      }
      $("every").hidden = !state.hidden.size;
      redraw();
    };
    const alone = () => {
      const others = keys.filter((other) => other !== key);
      const already = others.length === state.hidden.size && !state.hidden.has(key);
      change(already ? [] : others);
    };
    show.setAttribute("aria-pressed", String(!state.hidden.has(key)));
    show.addEventListener("click", () => {
      const hidden = new Set(state.hidden);
      if (!hidden.delete(key)) hidden.add(key);
      change(hidden);
    });
    show.addEventListener("dblclick", alone);
    const only = element("button", "only", "only");
    only.setAttribute("aria-label", `only ${name}`);
    only.addEventListener("click", alone);
    row.append(show, only);
    return row;
  }

  function colourBar(column) {
    const [low, high] = range(column), bar = element("div", "bar"), ends = element("div", "scale");
    bar.style.background = `linear-gradient(to right, ${theme().numbers.join(",")})`;
    ends.append(...[low, (low + high) / 2, high].map((value) => element("span", "", written(value))));
    let without = 0;
    for (const value of column.numbers) if (Number.isNaN(value)) without++;
    const rest = without ? `${without.toLocaleString("en")} without a value, in grey` : "";
    return [bar, ends, element("p", "hint", rest)];
  }

  // ---- moving about --------------------------------------------------------------------------

  const stage = $("map"), home = bounds();
  const width = () => stage.clientWidth || 1, height = () => stage.clientHeight || 1;

  function bounds() {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let row = 0; row < count; row++) {
      left = Math.min(left, x[row]); right = Math.max(right, x[row]);
      low = Math.min(low, y[row]); high = Math.max(high, y[row]);
    }
    return { left, low, wide: right - left, tall: high - low };
  }

  /** Put a place into the middle, so many units of data to a pixel. */
  function look(cx, cy, unit) {
    plot.x_range.setv({ start: cx - (unit * width()) / 2, end: cx + (unit * width()) / 2 });
    plot.y_range.setv({ start: cy - (unit * height()) / 2, end: cy + (unit * height()) / 2 });
  }
  const middle = () => [
    (plot.x_range.start + plot.x_range.end) / 2, (plot.y_range.start + plot.y_range.end) / 2,
  ];
  const unit = () => (plot.x_range.end - plot.x_range.start) / width();
  const least = (across = width(), down = height()) =>
    Math.max(home.wide / across, home.tall / down) * 1.08 || 1 / across;
  const fit = () => look(home.left + home.wide / 2, home.low + home.tall / 2, least());
  const zoom = (factor) => look(...middle(), unit() / factor);
  const pixel = (row) => [
    (x[row] - plot.x_range.start) / unit(),
    height() - ((y[row] - plot.y_range.start) / (plot.y_range.end - plot.y_range.start)) * height(),
  ];

  function goTo(row) {
    look(x[row], y[row], Math.min(unit(), least() / 6));
    const frame = stage.getBoundingClientRect(), [left, top] = pixel(row);
    showTip(row, frame.left + left, frame.top + top);
  }

  const labels = data.names.map(([lx, ly, text]) => {
    const label = element("span", "", text);
    $("labels").append(label);
    return { lx, ly, label, wide: label.offsetWidth, tall: label.offsetHeight, bare: false };
  });

  /** No name stays where most points around it are hidden. */
  function nameWhatIsShown() {
    const reach = Math.max(home.wide, home.tall) * 0.02;
    for (const each of labels) {
      let balance = 0;
      if (state.hidden.size) around(each.lx, each.ly, reach, (row) => { balance += isHidden(row) ? -1 : 1; });
      each.bare = balance < 0;
    }
    placeLabels();
  }

  /** Names where they have room, those that come first before others. */
  function placeLabels() {
    const tools = $("tools");
    const taken = [[tools.offsetLeft, tools.offsetTop, tools.offsetWidth, tools.offsetHeight]];
    for (const { lx, ly, label, wide, tall, bare } of labels) {
      const across = (lx - plot.x_range.start) / unit(), down = (plot.y_range.end - ly) / unit();
      // A name is moved a little rather than cut.
      const left = Math.max(2, Math.min(width() - wide - 2, across - wide / 2));
      const top = Math.max(2, Math.min(height() - tall - 2, down - tall / 2));
      const free = !bare && across > 0 && across < width() && down > 0 && down < height()
        && taken.every(([l, t, w, h]) => left > l + w || l > left + wide || top > t + h || t > top + tall);
      label.hidden = !free;
      if (!free) continue;
      taken.push([left, top, wide, tall]);
      label.style.transform = `translate(${left}px, ${top}px)`;
    }
  }

  let waiting = false, settling;
  function moved() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      placeLabels();
      hideTip();
      clearTimeout(settling);
      settling = setTimeout(resizePoints, 150);
    });
  }

  /** Points are smaller where there are many, and grow as one comes nearer. */
  const small = Math.min(9, Math.max(1.5, 42 / count ** 0.25));
  let drawn = 0;
  function resizePoints() {
    const size = Math.round(4 * Math.min(10, small * Math.max(1, least() / unit()) ** 0.4)) / 4;
    if (size === drawn) return;
    drawn = size;
    plot.renderers.forEach((renderer, at) => { renderer.glyph.size = { value: size + at }; });
  }

  // ---- what is under the mouse ---------------------------------------------------------------

  // Rows in the order of the cells of a grid, and where each cell begins.
  const side = Math.max(1, Math.ceil(Math.sqrt(count / 4)));
  const starts = new Uint32Array(side * side + 1), order = new Uint32Array(count);
  const along = (value, from, span) =>
    Math.min(side - 1, Math.max(0, Math.floor((side * (value - from)) / (span || 1))));
  const cell = (row) => along(y[row], home.low, home.tall) * side + along(x[row], home.left, home.wide);
  for (let row = 0; row < count; row++) starts[cell(row) + 1]++;
  for (let at = 0; at < side * side; at++) starts[at + 1] += starts[at];
  const next = starts.slice();
  for (let row = 0; row < count; row++) order[next[cell(row)]++] = row;

  /** Hand on every row that is near a place, with the square of its distance. */
  function around(px, py, reach, take) {
    const [left, right] = [px - reach, px + reach].map((value) => along(value, home.left, home.wide));
    const [low, high] = [py - reach, py + reach].map((value) => along(value, home.low, home.tall));
    for (let line = low; line <= high; line++) {
      const end = starts[line * side + right + 1];
      for (let at = starts[line * side + left]; at < end; at++) {
        const row = order[at], distance = (x[row] - px) ** 2 + (y[row] - py) ** 2;
        if (distance <= reach * reach) take(row, distance);
      }
    }
  }

  function nearest(px, py, reach) {
    const { matches, inside } = state;
    let best = -1, closest = Infinity;
    around(px, py, reach, (row, distance) => {
      if (isHidden(row)) return;
      // What is dimmed counts only where nothing else is near.
      const dimmed = (matches && !matches[row]) || (inside && !inside[row]);
      const rank = distance + (dimmed ? reach * reach : 0);
      if (rank < closest) { closest = rank; best = row; }
    });
    return best;
  }

  function showTip(row, left, top) {
    const tip = $("tip"), list = document.createElement("dl");
    const cut = (text) => (text.length > SHOWN ? `${text.slice(0, SHOWN - 1)}…` : text);
    const valueOf = (column) => {
      if (!column.numbers) return column.values[column.codes[row]];
      return Number.isNaN(column.numbers[row]) ? undefined : written(column.numbers[row]);
    };
    // What is coloured by comes first.
    const known = [...columns].sort((a, b) => (b === state.column) - (a === state.column))
      .filter((column) => valueOf(column) !== undefined);
    const lines = known.slice(0, VALUES).map(
      (column) => [element("dt", "", column.name), element("dd", "", valueOf(column))],
    );
    list.append(...lines.flat());
    const more = element("div", "more");
    const sayMore = () => {
      more.textContent = known.length > lines.length ? `and ${known.length - lines.length} more` : "";
    };
    sayMore();
    tip.replaceChildren(spanned("id", cut(ids[row])), element("div", "text", cut(texts[row])), list, more);
    tip.hidden = $("ring").hidden = false;
    // As many as the window has room for.
    while (lines.length && tip.scrollHeight > tip.clientHeight) {
      for (const part of lines.pop()) part.remove();
      sayMore();
    }
    const [px, py] = pixel(row);
    $("ring").style.transform = `translate(${px}px, ${py}px)`;
    const far = left + 16 + tip.offsetWidth > innerWidth ? left - 16 - tip.offsetWidth : left + 16;
    const down = Math.min(top + 12, innerHeight - tip.offsetHeight - 4);
    tip.style.transform = `translate(${Math.max(4, far)}px, ${Math.max(4, down)}px)`;
  }
  function hideTip() { $("tip").hidden = $("ring").hidden = true; }

  stage.addEventListener("pointermove", (event) => {
    if (event.buttons) { hideTip(); return; }
    const frame = stage.getBoundingClientRect();
    const px = plot.x_range.start + (event.clientX - frame.left) * unit();
    const py = plot.y_range.end - (event.clientY - frame.top) * unit();
    const row = nearest(px, py, REACH * unit());
    if (row < 0) hideTip();
    else showTip(row, event.clientX, event.clientY);
  });
  stage.addEventListener("pointerleave", hideTip);

  // ---- controls ------------------------------------------------------------------------------

  const drags = { pan, lasso, box };
  function drag(name) {
    drags[name].active = true;
    for (const each of Object.keys(drags)) $(each).setAttribute("aria-pressed", String(each === name));
  }

  function toggleTheme() {
    const root = document.documentElement;
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    legend();
    redraw();
  }

  let named = true;
  function toggleNames() {
    named = !named;
    showNames();
  }

  /** Names say nothing of another column than the one they are of. */
  function showNames() {
    const other = data.color !== null && state.column !== null && state.column !== columns[data.color];
    $("labels").hidden = !named || other;
    $("names").disabled = other;
    $("names").setAttribute("aria-pressed", String(named));
  }

  const step = (right, up) => {
    const [cx, cy] = middle();
    look(cx + right * width() * unit() * 0.1, cy + up * height() * unit() * 0.1, unit());
  };
  const actions = {
    pan: () => drag("pan"), lasso: () => drag("lasso"), box: () => drag("box"), closer: () => zoom(1.4),
    farther: () => zoom(1 / 1.4), reset: fit, names: toggleNames, theme: toggleTheme, copy, save, clear,
    every: () => { state.hidden.clear(); legend(); redraw(); },
  };
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
  const keys = {
    p: actions.pan, l: actions.lasso, b: actions.box, 0: fit, "+": actions.closer, "=": actions.closer,
    "-": actions.farther, n: () => $("names").click(), t: toggleTheme, Escape: clear,
    "/": () => $("search").focus(),
  };
  const arrows = {
    ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1],
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = /^(INPUT|SELECT)$/.test(event.target.tagName);
    if (typing && event.key !== "Escape") return;
    if (event.key in keys) keys[event.key]();
    else if (event.key in arrows && stage.contains(event.target)) step(...arrows[event.key]);
    else return;
    event.preventDefault();
  });

  let pause;
  $("search").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(search, count > 20000 ? 250 : 80);
  });
  $("where").addEventListener("change", search);
  $("by").addEventListener("change", () => colourBy($("by").value));
  $("where").append(new Option("id and text", "texts"), new Option("everything", "all"));
  $("by").append(new Option("nothing", ""));
  columns.forEach((column, at) => {
    $("where").append(new Option(column.name, at));
    $("by").append(new Option(column.name, at));
  });

  // ---- begin ---------------------------------------------------------------------------------

  for (const axis of [plot.x_range, plot.y_range]) axis.change.connect(moved);
  // A larger or smaller window shows more or less of the map, the whole map if that was shown.
  let size = [width(), height()];
  new ResizeObserver(() => {
    const scale = (plot.x_range.end - plot.x_range.start) / size[0];
    const whole = Math.abs(scale / least(...size) - 1) < 0.01;
    size = [width(), height()];
    if (whole) fit();
    else look(...middle(), scale);
    moved();
  }).observe(stage);
  const first = data.color ?? "";
  $("by").value = String(first);
  fit();
  resizePoints();
  colourBy(first);
  $("names").hidden = !labels.length;
  $("wait").hidden = true;
  document.documentElement.dataset.ready = "";

  // ---- small things --------------------------------------------------------------------------

  function element(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function spanned(name, text) { return element("span", name, text); }
  function written(value) {
    if (Number.isInteger(value)) return String(value);
    return Number.isNaN(value) ? "" : String(Number(value.toPrecision(6)));
  }
  function bytes(base64) {
    const text = atob(base64), all = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at++) all[at] = text.charCodeAt(at);
    return all.buffer;
  }
})();
