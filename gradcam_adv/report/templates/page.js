"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const data = JSON.parse(byId("viewer-data").textContent);
  // What is chosen: names of arm and network, numbers of the others.
  const chosen = { photo: 0, layer: 0, epsilon: 0 };
  const controls = (name) => all(`[data-control="${name}"]`);

  // Tabs: the section of the address is shown; in print, and without scripts, all are.
  const sections = all("main > section");
  function visit() {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    const section = target?.closest("main > section") ?? sections[0];
    for (const one of sections) one.classList.toggle("shown", one === section);
    for (const link of all("nav a")) {
      if (link.hash === `#${section.id}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const arm = target?.closest("[data-arm]")?.dataset.arm;
    if (arm) choose("arm", arm);
    const details = target?.closest("details");
    if (details) details.open = true;
    if (!target || target === section) window.scrollTo(0, 0);
    else target.scrollIntoView();
  }

  function choose(name, value) {
    chosen[name] = name in { photo: 0, layer: 0, epsilon: 0 } ? Number(value) : value;
    for (const control of controls(name)) control.value = value;
    for (const radio of all(`input[name="${name}"]`)) radio.checked = radio.value === value;
    for (const one of all("[data-arm]")) {
      const { arm, network } = one.dataset;
      one.hidden = arm !== chosen.arm || (network !== undefined && network !== chosen.network);
    }
    if (data && (name === "arm" || name === "network")) refill();
    if (data) draw();
  }

  // The viewer and the strip, which show the same choice.
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const heat = data && bytes(data.colours.heat);
  const shift = data && bytes(data.colours.shift);

  function networkShown() {
    const { networks } = data.arms.find((own) => own.arm === chosen.arm);
    return networks.find((own) => own.name === chosen.network) ?? networks[0];
  }

  function state() {
    const network = networkShown();
    const photo = network.photos[chosen.photo];
    const levels = levelsOf(photo);
    const level = levels[chosen.epsilon];
    const noise = levels.map((of) => noiseOf(photo, of));
    return { network, photo, levels, level, noise, layer: chosen.layer };
  }

  // The level with noise of the same size; the clean photo has none.
  const noiseOf = (photo, level) =>
    photo.levels.find((own) => own.attack === "noise" && own.epsilon === level.epsilon) ?? level;

  // The clean photo, then those of the chosen attack.
  const levelsOf = (photo) =>
    photo.levels.filter((own) => own.epsilon === 0 || own.attack === chosen.attack);

  function fill(name, names) {
    for (const select of controls(name)) {
      select.replaceChildren(...names.map(([value, text]) => new Option(text, value)));
      select.value = chosen[name];
    }
  }

  // After a change of arm or network: fill the other controls, and keep their choice if possible.
  function refill() {
    const network = networkShown();
    chosen.photo = Math.min(chosen.photo, network.photos.length - 1);
    fill("photo", network.photos.map((own, i) => [i, `${i + 1}: ${own.person} (${own.name})`]));
    const attacks = [...new Set(network.photos[0].levels.map((own) => own.attack))]
      .filter((name) => name !== "clean" && name !== "noise");
    chosen.attack ??= attacks[0];
    fill("attack", attacks.map((name) => [name, name]));
    const levels = levelsOf(network.photos[0]);
    for (const range of controls("epsilon")) range.max = levels.length - 1;
    const [range] = controls("layer");
    const depth = range.max > 0 && chosen.layers ? chosen.layer / range.max : 1;
    range.max = network.layers.length - 1;
    chosen.layer = range.value = Math.round(depth * range.max);
    chosen.layers = network.layers.length;
  }

  const pictures = new Map();
  function picture(index) {
    if (!pictures.has(index)) {
      const image = new Image();
      image.src = data.pictures[index];
      pictures.set(index, image.decode().then(() => pixelsOf(image)));
    }
    return pictures.get(index);
  }

  function pixelsOf(image) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }

  async function inflate(text) {
    const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  const decoded = new Map();
  function mapsOf(level) {
    if (!decoded.has(level.maps)) decoded.set(level.maps, inflate(data.maps[level.maps]));
    return decoded.get(level.maps);
  }

  // One layer's map, enlarged; the maps of all layers are stored one after the other.
  function mapAt(network, maps, layer, size) {
    let start = 0;
    for (const [, height, width] of network.layers.slice(0, layer)) start += height * width;
    const [, height, width] = network.layers[layer];
    const values = maps.subarray(start, start + height * width);
    return enlarge({ values, height, width }, size.width, size.height);
  }

  // Bilinear, with the samples in the middle of their pixels, as the heatmaps are scored.
  function enlarge(map, width, height) {
    const large = new Float32Array(width * height);
    const place = (i, from, to) => Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1);
    for (let y = 0; y < height; y += 1) {
      const down = place(y, map.height, height);
      const [y0, y1] = [Math.floor(down), Math.ceil(down)];
      for (let x = 0; x < width; x += 1) {
        const right = place(x, map.width, width);
        const [x0, x1] = [Math.floor(right), Math.ceil(right)];
        const at = (row, column) => map.values[row * map.width + column];
        const above = at(y0, x0) + (at(y0, x1) - at(y0, x0)) * (right - x0);
        const below = at(y1, x0) + (at(y1, x1) - at(y1, x0)) * (right - x0);
        large[y * width + x] = above + (below - above) * (down - y0);
      }
    }
    return large;
  }

  function paint(name, pixels, label) {
    for (const canvas of all(`[data-panel="${name}"]`)) {
      [canvas.width, canvas.height] = [pixels.width, pixels.height];
      canvas.getContext("2d").putImageData(pixels, 0, 0);
      canvas.setAttribute("aria-label", label);
    }
  }

  // Values from 0 to 255 in colours, with a share of the photo under them.
  function coloured(values, table, under, strength) {
    const pixels = new ImageData(new Uint8ClampedArray(under.data), under.width, under.height);
    values.forEach((value, i) => {
      for (let channel = 0; channel < 3; channel += 1) {
        const colour = table[3 * Math.round(value) + channel];
        const below = under.data[4 * i + channel];
        pixels.data[4 * i + channel] = strength * colour + (1 - strength) * below;
      }
    });
    return pixels;
  }

  // In words, for screen readers.
  function highest(values, width, height) {
    let peak = 0;
    values.forEach((value, i) => { if (value > values[peak]) peak = i; });
    if (values[peak] === 0) return "empty, no position speaks for the class";
    const third = (i, length) => Math.floor((3 * i) / length);
    const row = ["top", "middle", "bottom"][third(Math.floor(peak / width), height)];
    const column = ["left", "centre", "right"][third(peak % width, width)];
    return `highest at the ${row} ${column}`;
  }

  const digits = (level, layer) => level.nissim[layer].toFixed(4);

  let latest = 0;
  async function draw() {
    const turn = (latest += 1);
    byId("viewer-pictures").setAttribute("aria-busy", "true");
    const { network, photo, layer, levels, level, noise } = state();
    const [name] = network.layers[layer];
    const kinds = { clean: levels[0], attacked: level, noise: noise[chosen.epsilon] };
    const pixels = {};
    const maps = {};
    for (const [kind, own] of Object.entries(kinds)) {
      pixels[kind] = await picture(own.picture);
      maps[kind] = mapAt(network, await mapsOf(own), layer, pixels[kind]);
    }
    if (turn !== latest) return; // the controls have changed since
    const { width, height } = pixels.clean;
    const at = `ε = ${level.epsilon}`;
    const what = {
      clean: `Photo of ${photo.person}`, attacked: `The photo under the ${level.attack} attack, ${at}`,
      noise: `The photo with noise, ${at}`,
    };
    if (level.epsilon === 0) what.attacked = what.noise = "The photo, unchanged";
    for (const kind of Object.keys(kinds)) {
      paint(kind, pixels[kind], what[kind]);
      paint(`heat-${kind}`, coloured(maps[kind], heat, pixels[kind], 0.5),
        `${what[kind]}: heatmap at ${name}, ${highest(maps[kind], width, height)}`);
      caption(`heat-${kind}`, maps[kind]);
      if (kind === "clean") continue;
      const change = maps[kind].map((value, i) => (value - maps.clean[i] + 255) / 2);
      paint(kind === "noise" ? "shift-noise" : "shift", coloured(change, shift, pixels.clean, 1),
        `${what[kind]}: difference of the heatmaps at ${name}, NISSIM ${digits(kinds[kind], layer)}`);
    }
    tell();
    byId("viewer-pictures").setAttribute("aria-busy", "false");
  }

  // The numbers in large type: at the chosen epsilon, or where there are none, as the page opens.
  function follow(epsilon) {
    const sizes = new Set(all("[data-epsilon]").map((one) => Number(one.dataset.epsilon)));
    const shown = sizes.has(epsilon) ? epsilon : data.epsilon;
    for (const one of all("[data-epsilon]")) one.hidden = Number(one.dataset.epsilon) !== shown;
  }

  // A heatmap in which no position speaks for the class is named so below its picture.
  function caption(name, values) {
    for (const canvas of all(`[data-panel="${name}"]`)) {
      const below = canvas.closest("figure").querySelector("figcaption");
      below.dataset.usual ??= below.textContent;
      below.textContent = below.dataset.usual + (values.some((value) => value > 0) ? "" : " (empty)");
    }
  }

  function say(name, text) {
    for (const one of all(`[data-shown="${name}"]`)) one.textContent = text;
    for (const range of controls(name)) range.setAttribute("aria-valuetext", text);
  }

  function tell() {
    const { network, photo, layer, levels, level, noise } = state();
    const [name] = network.layers[layer];
    const own = network.source && level.epsilon > 0 && chosen.attack === "black-box"
      ? " (made on this network, so it is its white-box attack)" : "";
    const reached = `predicted ${levels[0].predicted} when clean, ${level.predicted} now; ` +
      `NISSIM ${digits(level, layer)}, with noise ${digits(noise[chosen.epsilon], layer)}.`;
    say("layer", `${name} (${layer + 1} of ${network.layers.length})`);
    say("epsilon", String(level.epsilon));
    follow(level.epsilon);
    say("strip", `${photo.person}, ${name}, ε = ${level.epsilon}: ${reached}`);
    byId("viewer-status").textContent =
      `${network.title}, photo ${network.photos.indexOf(photo) + 1} of ${network.photos.length} ` +
      `(${photo.person}), ${name}, ${chosen.attack} attack${own}, ε = ${level.epsilon}: ${reached}`;
    const [head, ...rows] = byId("viewer-nissim").querySelectorAll("tr");
    const cell = (kind, text, scope) => {
      const made = document.createElement(kind);
      made.textContent = text;
      if (scope) made.scope = scope;
      return made;
    };
    head.replaceChildren(cell("th", "ε", "col"), ...levels.map((one) => cell("th", one.epsilon, "col")));
    [["attack", levels], ["noise", noise]].forEach(([what, values], i) => {
      rows[i].replaceChildren(cell("th", what, "row"),
        ...values.map((one) => cell("td", digits(one, layer))));
    });
    for (const row of [head, ...rows]) {
      row.children[levels.indexOf(level) + 1].setAttribute("aria-current", "true");
    }
  }

  // Only with the pictures or a slider in focus: elsewhere the keys are the browser's.
  function pressed(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const select = { n: "network", p: "photo", a: "attack" }[event.key.toLowerCase()];
    const arrow = {
      ArrowLeft: ["epsilon", -1], ArrowRight: ["epsilon", 1], ArrowUp: ["layer", -1], ArrowDown: ["layer", 1],
    }[event.key];
    if (select) {
      const values = [...controls(select)[0].options].map((option) => option.value);
      const place = values.indexOf(String(chosen[select])) + (event.shiftKey ? -1 : 1);
      choose(select, values[(place + values.length) % values.length]);
    } else if (arrow && event.currentTarget.id === "viewer-pictures") {
      const [range] = controls(arrow[0]);
      choose(arrow[0], Math.min(Math.max(chosen[arrow[0]] + arrow[1], 0), Number(range.max)));
    } else {
      return;
    }
    event.preventDefault();
  }

  for (const one of all("[data-control]")) {
    const { control } = one.dataset;
    const kind = one.type === "range" ? "input" : "change";
    one.addEventListener(kind, () => choose(control, one.value));
    if (one.type === "range") one.addEventListener("keydown", pressed);
  }
  for (const radio of all('input[name="arm"]')) {
    radio.addEventListener("change", () => choose("arm", radio.value));
  }
  for (const one of all(".scripted, form.controls, fieldset.arms")) one.hidden = false;
  document.documentElement.classList.add("tabbed");
  chosen.network = all(".card")[0]?.dataset.network;
  chosen.arm = all(".card")[0]?.dataset.arm;
  if (data) {
    byId("viewer-pictures").addEventListener("keydown", pressed);
    refill();
    chosen.epsilon = Math.max(levelsOf(networkShown().photos[0])
      .findIndex((own) => own.epsilon === data.epsilon), 0);
    for (const range of controls("epsilon")) range.value = chosen.epsilon;
  }
  choose("arm", chosen.arm);
  window.addEventListener("hashchange", visit);
  visit();
})();
