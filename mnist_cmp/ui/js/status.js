// How a run stands, in a line. The kernel writes it; once the kernel can't, the page says so.
const SILENCE = 10; // s without a sign of a run that is watched, after which that is said
const AGAIN = "Run this cell again (in the app: reload the page)";

function withoutKernel(watched, value) {
  if (watched === "own") {
    return `The kernel has ended, and the run with it; what is finished is kept. ${AGAIN}, then Show the last run and Resume.`;
  }
  if (watched === "other") return `The kernel has ended. ${AGAIN} to see how the run stands.`;
  return `${value ? `${value} ` : ""}The kernel has ended: these buttons do nothing more. ${AGAIN}.`;
}

export default {
  render({ model, el }) {
    const line = document.createElement("span");
    line.setAttribute("role", "status");
    el.classList.add("mnist-cmp-status");
    el.append(line);
    let heard = Date.now();
    let locked = []; // what was enabled when the kernel ended

    const lock = (isLost) => {
      if (isLost === locked.length > 0) return;
      if (isLost) {
        const controls = el.closest(".mnist-cmp-panel")?.querySelectorAll("button, input, select") ?? [];
        locked = [...controls].filter((control) => !control.disabled);
      }
      for (const control of locked) control.disabled = isLost;
      if (!isLost) locked = [];
    };
    const show = () => {
      const isLost = el.closest(".jupyter-widgets-disconnected") !== null;
      const watched = model.get("watched");
      const value = model.get("value");
      const silent = watched ? Math.floor((Date.now() - heard) / 1000) : 0;
      let text = value;
      if (isLost) text = withoutKernel(watched, value);
      else if (silent > SILENCE) text = `No word from the kernel for ${silent} s. The last was: ${value}`;
      if (line.textContent !== text) line.textContent = text;
      line.classList.toggle("mnist-cmp-bad", model.get("bad"));
      lock(isLost);
    };
    const hear = () => {
      heard = Date.now();
      show();
    };
    model.on("change", hear);
    const clock = setInterval(show, 300);
    show();
    return () => {
      model.off("change", hear);
      clearInterval(clock);
    };
  },
};
