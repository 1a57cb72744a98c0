// A pad to draw on. The page holds the strokes; the kernel turns them into an image and answers.
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// The answers: for each model a bar for each class.
function answers(model) {
  const box = make("div", { className: "answers" });
  const bars = model.get("names").map((name, m) => {
    const rows = model.get("classes").map((label) => {
      const bar = make("i");
      bar.style.background = model.get("colors")[m];
      const row = make("div", { className: "bar" }, make("span", { textContent: label }), bar, make("span"));
      return { row, bar, text: row.lastChild };
    });
    const title = make("b", { textContent: name, title: name });
    box.append(make("div", { className: "answer" }, title, ...rows.map((r) => r.row)));
    box.lastChild.setAttribute("role", "group");
    box.lastChild.setAttribute("aria-label", `answer of ${name}`);
    return rows;
  });
  const show = () => {
    const given = model.get("answers");
    bars.forEach((rows, m) => {
      const best = given[m] ? Math.max(...given[m]) : NaN;
      rows.forEach(({ row, bar, text }, k) => {
        const p = given[m]?.[k];
        bar.style.width = `${100 * (p ?? 0)}%`;
        text.textContent = p === undefined ? "" : `${Math.round(100 * p)} %`;
        row.classList.toggle("best", p === best);
      });
    });
  };
  return { box, show };
}

// What the models see: 28×28 values from 0 (paper) to 255 (ink), in the colours of the page.
function image(canvas, bytes, ink, paper) {
  const at = canvas.getContext("2d");
  at.clearRect(0, 0, 28, 28);
  at.fillStyle = paper;
  at.fillRect(0, 0, 28, 28);
  if (!bytes?.byteLength) return;
  at.fillStyle = ink;
  for (let i = 0; i < 784; i++) {
    at.globalAlpha = bytes.getUint8(i) / 255;
    if (at.globalAlpha) at.fillRect(i % 28, Math.floor(i / 28), 1, 1);
  }
  at.globalAlpha = 1;
}

const LABEL = "Pad to draw a digit on. Draw with mouse, finger or pen; or with the keyboard: arrow keys move the pen, "
  + "space puts it down and lifts it, Backspace takes back a stroke, Escape clears the pad, n shows the next hard image.";

function render({ model, el }) {
  const paper = make("canvas", { className: "paper", width: 560, height: 560, tabIndex: 0 });
  paper.setAttribute("role", "application");
  paper.setAttribute("aria-label", LABEL);
  const seen = make("canvas", { className: "seen", width: 28, height: 28 });
  seen.setAttribute("role", "img");
  seen.setAttribute("aria-label", "what the models see: 28 by 28 pixels");
  const button = (text, title, onclick) => make("button", { type: "button", textContent: text, title, onclick });
  const undo = button("Undo", "take back the last stroke (Backspace)", () => put(strokes().slice(0, -1)));
  const clear = button("Clear", "empty the pad (Escape)", () => put([]));
  const next = button("Next hard image", "a test image on which the models differ (n)", () => model.send({ ask: "next" }));
  const brush = make("input", { type: "range", min: 0.03, max: 0.14, step: 0.005, value: model.get("brush") });
  brush.oninput = () => { model.set("brush", Number(brush.value)); model.save_changes(); };
  const message = make("div", { className: "said" });
  message.setAttribute("role", "status");
  const { box, show } = answers(model);
  const tools = make("div", { className: "tools" }, undo, clear, make("label", {}, "Brush", brush),
                     ...(model.get("has_test") ? [next] : []), message);
  el.append(make("div", { className: "mnist-cmp-pad" }, make("div", {}, paper, tools),
                 make("figure", {}, seen, make("figcaption", { textContent: "what the models see" })), box));

  // strokes: [{ width, points: [[x, y], …] }], in shares of the pad's side
  const strokes = () => model.get("strokes");
  let pending = false;
  function put(list) {
    model.set("strokes", list);
    draw();
    if (pending) return;
    pending = true; // once a frame is enough; ipywidgets keeps the newest while the kernel is busy
    requestAnimationFrame(() => { pending = false; model.save_changes(); });
  }
  const begin = (x, y) => put([...strokes(), { width: model.get("brush"), points: [[x, y]] }]);
  function extend(points) {
    const list = strokes();
    const last = list[list.length - 1];
    put([...list.slice(0, -1), { ...last, points: [...last.points, ...points] }]);
  }

  let pen = null; // of the keyboard: { x, y, down }
  function draw() {
    const at = paper.getContext("2d");
    const style = getComputedStyle(paper);
    const side = paper.width;
    at.clearRect(0, 0, side, side);
    at.strokeStyle = at.fillStyle = style.color;
    at.lineCap = at.lineJoin = "round";
    if (!strokes().length && model.get("hard") >= 0) { // a test image instead of a drawing
      at.imageSmoothingEnabled = false;
      at.drawImage(seen, 0, 0, side, side);
    }
    for (const { width, points } of strokes()) {
      at.lineWidth = width * side;
      at.beginPath();
      points.forEach(([x, y], i) => (i ? at.lineTo(x * side, y * side) : at.moveTo(x * side, y * side)));
      if (points.length === 1) at.lineTo(points[0][0] * side, points[0][1] * side + 0.01);
      at.stroke();
    }
    if (pen) {
      at.lineWidth = 3;
      at.beginPath();
      at.arc(pen.x * side, pen.y * side, pen.down ? 8 : 14, 0, 7);
      pen.down ? at.fill() : at.stroke();
    }
    undo.disabled = clear.disabled = !strokes().length;
    if (model.get("hard") >= 0) clear.disabled = false;
  }
  function answered() {
    const style = getComputedStyle(paper);
    image(seen, model.get("seen"), style.color, style.backgroundColor);
    message.textContent = model.get("message");
    show();
    draw();
  }

  const place = (event) => {
    const r = paper.getBoundingClientRect();
    return [(event.clientX - r.left) / r.width, (event.clientY - r.top) / r.height];
  };
  let drawing = null; // the pointer that draws
  paper.onpointerdown = (event) => {
    if (drawing !== null || event.button) return;
    drawing = event.pointerId;
    pen = null;
    paper.setPointerCapture(drawing);
    paper.focus();
    begin(...place(event));
    event.preventDefault();
  };
  paper.onpointermove = (event) => {
    if (event.pointerId === drawing) extend((event.getCoalescedEvents?.() || []).concat([event]).map(place));
  };
  paper.onpointerup = paper.onpointercancel = (event) => { if (event.pointerId === drawing) drawing = null; };
  paper.onblur = () => { pen = null; draw(); };
  paper.onkeydown = (event) => {
    const step = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] }[event.key];
    const undone = event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey));
    if (step) {
      pen ??= { x: 0.5, y: 0.5, down: false };
      pen.x = Math.min(1, Math.max(0, pen.x + step[0]));
      pen.y = Math.min(1, Math.max(0, pen.y + step[1]));
      if (pen.down) extend([[pen.x, pen.y]]);
    } else if (event.key === " ") {
      pen ??= { x: 0.5, y: 0.5, down: false };
      pen.down = !pen.down;
      if (pen.down) begin(pen.x, pen.y);
    } else if (undone) { if (pen) pen.down = false; put(strokes().slice(0, -1)); }
    else if (event.key === "Escape") { pen = null; put([]); }
    else if (event.key === "n" && model.get("has_test")) model.send({ ask: "next" });
    else return;
    draw();
    event.preventDefault();
    event.stopPropagation(); // these keys are not for the notebook
  };

  clear.onclick = () => { pen = null; put([]); if (model.get("hard") >= 0) model.send({ ask: "clear" }); };
  // strokes that a cell put there, and the answers
  const events = "change:seen change:answers change:message change:hard";
  model.on(events, answered);
  model.on("change:strokes", draw);
  // a theme that changes: draw anew in its colours
  const themes = new MutationObserver(answered);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class", "style"] });
  requestAnimationFrame(answered);
  return () => { model.off(events, answered); model.off("change:strokes", draw); themes.disconnect(); };
}

export default { render };
