"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("viewer-data").textContent);
  const control = {};
  for (const name of ["arm", "network", "photo", "attack", "layer", "epsilon"]) {
    control[name] = byId(`viewer-${name}`);
  }
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const heat = bytes(data.colours.heat);
  const shift = bytes(data.colours.shift);

  // What the controls choose.
  function chosen() {
    const arm = data.arms[control.arm.value];
    const network = arm.networks[control.network.value];
    const photo = network.photos[control.photo.value];
    const layer = Number(control.layer.value);
    const levels = levelsOf(photo);
    return { arm, network, photo, layer, levels, level: levels[control.epsilon.value] };
  }

  // The clean photo, then those of the chosen attack.
  function levelsOf(photo) {
    return photo.levels.filter((own) => own.epsilon === 0 || own.attack === control.attack.value);
  }

  function fill(select, names) {
    const kept = Math.min(Math.max(select.selectedIndex, 0), names.length - 1);
    select.replaceChildren(...names.map((name, i) => new Option(name, i)));
    select.selectedIndex = kept;
  }

  // After a change of arm or network: fill the other controls, and keep their choice if possible.
  function refill() {
    const arm = data.arms[control.arm.value];
    fill(control.network, arm.networks.map((own) => own.title));
    const network = arm.networks[control.network.value];
    fill(control.photo, network.photos.map((own, i) => `${i + 1}: ${own.person} (${own.name})`));
    const depth = control.layer.max > 0 ? control.layer.value / control.layer.max : 1;
    control.layer.max = network.layers.length - 1;
    control.layer.value = Math.round(depth * control.layer.max);
    byId("viewer-caveat").textContent = arm.caveat;
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
    const canvas = byId(`viewer-${name}`);
    [canvas.width, canvas.height] = [pixels.width, pixels.height];
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    canvas.setAttribute("aria-label", label);
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

  let latest = 0;
  async function draw() {
    const turn = (latest += 1);
    byId("viewer-pictures").setAttribute("aria-busy", "true");
    const { network, photo, layer, levels, level } = chosen();
    const [name] = network.layers[layer];
    const both = [levels[0], level];
    const [clean, attacked] = await Promise.all(both.map((own) => picture(own.picture)));
    const stored = await Promise.all(both.map(mapsOf));
    if (turn !== latest) return; // the controls have changed since
    const { width, height } = clean;
    const maps = stored.map((values) => mapAt(network, values, layer, clean));
    const change = maps[1].map((value, i) => (value - maps[0][i] + 255) / 2);
    const what = level.epsilon === 0 ? "no attack" : `ε = ${level.epsilon}, ${level.attack} attack`;
    paint("clean", clean, `Photo of ${photo.person}`);
    paint("attacked", attacked, `The photo with ${what}`);
    paint("heat-clean", coloured(maps[0], heat, clean, 0.5),
      `Heatmap of the photo at ${name}: ${highest(maps[0], width, height)}`);
    paint("heat-attacked", coloured(maps[1], heat, attacked, 0.5),
      `Heatmap with ${what} at ${name}: ${highest(maps[1], width, height)}`);
    paint("shift", coloured(change, shift, clean, 1),
      `Difference of the heatmaps at ${name}, NISSIM ${level.nissim[layer].toFixed(4)}`);
    tell();
    byId("viewer-pictures").setAttribute("aria-busy", "false");
  }

  function tell() {
    const { arm, network, photo, layer, levels, level } = chosen();
    const [name] = network.layers[layer];
    const own = network.source && level.epsilon > 0
      ? " (the black-box attack is made on this network, so both attacks are the same)" : "";
    byId("viewer-layer-shown").textContent = `${name} (${layer + 1} of ${network.layers.length})`;
    byId("viewer-epsilon-shown").textContent = level.epsilon;
    control.layer.setAttribute("aria-valuetext", `${name}, ${layer + 1} of ${network.layers.length}`);
    control.epsilon.setAttribute("aria-valuetext", level.epsilon);
    byId("viewer-status").textContent =
      `${arm.title}, ${network.title}, photo ${network.photos.indexOf(photo) + 1} of ${network.photos.length} ` +
      `(${photo.person}), ${name}, ${control.attack.value} attack${own}, ` +
      `ε = ${level.epsilon}: predicted ${levels[0].predicted} when clean, ${level.predicted} now; ` +
      `NISSIM ${level.nissim[layer].toFixed(4)}.`;
    const [head, body] = byId("viewer-nissim").querySelectorAll("tr");
    const cell = (kind, text, scope) => {
      const made = document.createElement(kind);
      made.textContent = text;
      if (scope) made.scope = scope;
      return made;
    };
    head.replaceChildren(cell("th", "ε", "col"), ...levels.map((one) => cell("th", one.epsilon, "col")));
    body.replaceChildren(cell("th", "NISSIM", "row"),
      ...levels.map((one) => cell("td", one.nissim[layer].toFixed(4))));
    for (const row of [head, body]) {
      row.children[levels.indexOf(level) + 1].setAttribute("aria-current", "true");
    }
  }

  function turn(select, step) {
    const count = select.options.length;
    select.selectedIndex = (select.selectedIndex + step + count) % count;
    select.dispatchEvent(new Event("change", { bubbles: true }));
  }

  function slide(range, step) {
    range.value = Number(range.value) + step;
    draw();
  }

  // Only with the pictures or a slider in focus: elsewhere the keys are the browser's.
  function pressed(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const letters = { n: control.network, p: control.photo, a: control.attack };
    const arrows = {
      ArrowLeft: [control.epsilon, -1], ArrowRight: [control.epsilon, 1],
      ArrowUp: [control.layer, -1], ArrowDown: [control.layer, 1],
    };
    const select = letters[event.key.toLowerCase()];
    if (select) {
      turn(select, event.shiftKey ? -1 : 1);
    } else if (arrows[event.key] && event.currentTarget.id === "viewer-pictures") {
      slide(...arrows[event.key]);
    } else {
      return;
    }
    event.preventDefault();
  }

  fill(control.arm, data.arms.map((own) => own.title));
  const [network] = data.arms[0].networks;
  const attacked = network.photos[0].levels.filter((own) => own.epsilon > 0);
  control.attack.replaceChildren(
    ...[...new Set(attacked.map((own) => own.attack))].map((name) => new Option(name, name)),
  );
  control.epsilon.max = levelsOf(network.photos[0]).length - 1;
  control.epsilon.value = control.epsilon.max;
  control.layer.max = 0;
  refill();
  for (const name of ["arm", "network"]) control[name].addEventListener("change", refill);
  for (const select of ["arm", "network", "photo", "attack"]) {
    control[select].addEventListener("change", draw);
  }
  for (const range of ["layer", "epsilon"]) {
    control[range].addEventListener("input", draw);
    control[range].addEventListener("keydown", pressed);
  }
  byId("viewer-pictures").addEventListener("keydown", pressed);
  byId("viewer-body").hidden = false;
  byId("contents").open = window.matchMedia("(min-width: 75rem)").matches;
  draw();
})();
