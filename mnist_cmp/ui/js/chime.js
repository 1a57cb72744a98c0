// The chime in the page: one AudioContext, made when the chime is switched on, and a note in a corner.
const page = (window.mnist_cmp_chime ??= { context: null, gain: null, buffer: null, source: null, note: null });

const unlock = () => page.context?.state === "suspended" && page.context.resume();

function ready(model) {
  if (!page.context) {
    page.context = new AudioContext();
    page.gain = page.context.createGain();
    page.gain.connect(page.context.destination);
    page.context.onstatechange = () => page.note && show(model, null);
    // where the browser wants a gesture of the user first, the next click or key will do
    for (const kind of ["pointerdown", "keydown"]) document.addEventListener(kind, unlock, true);
  }
  page.gain.gain.value = model.get("muted") ? 0 : model.get("volume");
  unlock();
}

function close() {
  page.source?.stop();
  page.context?.close();
  page.note?.remove();
  for (const kind of ["pointerdown", "keydown"]) document.removeEventListener(kind, unlock, true);
  Object.assign(page, { context: null, gain: null, buffer: null, source: null, note: null });
}

function play({ samples, rate }) {
  const bytes = samples.buffer.slice(samples.byteOffset, samples.byteOffset + samples.byteLength);
  const wave = new Float32Array(bytes);
  page.buffer = page.context.createBuffer(1, wave.length, rate);
  page.buffer.copyToChannel(wave, 0);
  page.source?.stop();
  page.source = page.context.createBufferSource();
  page.source.buffer = page.buffer;
  page.source.connect(page.gain);
  page.source.start(); // of a context that is still locked: when it is unlocked
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const STYLE = `position:fixed; right:16px; bottom:36px; z-index:10000; display:flex; gap:10px; align-items:center;
  max-width:calc(100vw - 32px); padding:8px 12px; border-radius:6px; font:13px/1.4 system-ui, sans-serif;
  color:var(--jp-ui-font-color1, CanvasText); background:var(--jp-layout-color1, Canvas);
  border:1px solid var(--jp-border-color1, GrayText); box-shadow:0 3px 12px rgb(0 0 0 / 25%)`;

function show(model, ring) {
  const said = ring ? ring.text : page.note.dataset.said;
  const failed = ring ? ring.failed : page.note.dataset.failed === "true";
  const locked = page.context.state === "suspended";
  page.note?.remove();
  const button = (label, title, onclick) =>
    make("button", { type: "button", textContent: label, title, ariaLabel: title, onclick,
                     style: "cursor:pointer; font:inherit; padding:1px 8px; color:inherit; background:transparent;"
                            + "border:1px solid currentColor; border-radius:4px" });
  const set = (name, value) => { model.set(name, value); model.save_changes(); ready(model); };
  const text = make("span", { textContent: said, role: "status" });
  text.style.fontWeight = "600";
  if (failed) text.style.color = "var(--jp-error-color1, #c62828)";
  const muted = model.get("muted");
  const volume = make("input", { type: "range", min: 0, max: 1, step: 0.05, value: model.get("volume"), title: "volume",
                                 ariaLabel: "volume of the chime", style: "width:70px",
                                 oninput: (event) => set("volume", Number(event.target.value)) });
  const mute = button(muted ? "unmute" : "mute", muted ? "unmute the chime" : "mute the chime",
                      () => { set("muted", !muted); show(model, null); });
  const away = button("×", "close this note", () => { page.note.remove(); page.note = null; });
  const sound = locked ? [button("allow sound", "the browser holds the sound back: click to hear it", unlock)] : [volume, mute];
  page.note = make("div", { style: STYLE, className: "mnist-cmp-chime" }, text, ...sound, away);
  Object.assign(page.note.dataset, { said, failed });
  document.body.append(page.note);
}

function ring(model) {
  const now = model.get("ring");
  if (!model.get("is_on") || !now.number || now.number <= model.get("heard")) return;
  model.set("heard", now.number); // a page that is loaded again does not ring again
  model.save_changes();
  ready(model);
  play(now);
  show(model, now);
}

export default {
  initialize({ model }) {
    const turn = () => (model.get("is_on") ? ready(model) : close());
    model.on("change:is_on", turn);
    model.on("change:volume change:muted", () => page.context && ready(model));
    model.on("change:ring", () => ring(model));
    if (model.get("is_on")) turn();
    ring(model);
  },
};
