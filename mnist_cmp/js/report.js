// A button that asks the kernel for a page and opens it in a tab of its own.
export default {
  render({ model, el }) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "jupyter-button mod-info lm-mod-info";
    button.textContent = "Open the report";
    button.style.width = "140px";
    let tab = null;
    button.onclick = () => {
      tab = window.open("about:blank"); // now, as an answer to the click; later it would be a pop-up
      model.send({ ask: "page" });
    };
    const opened = ({ page }) => {
      const url = URL.createObjectURL(new Blob([page], { type: "text/html" }));
      if (tab) tab.location = url;
      tab = null;
    };
    const label = () => {
      button.hidden = !model.get("name");
      button.title = model.get("name");
    };
    model.on("msg:custom", opened);
    model.on("change:name", label);
    label();
    el.append(button);
    return () => model.off("msg:custom", opened);
  },
};
