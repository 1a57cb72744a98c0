// A button that asks the kernel for a page and opens it in a tab of its own.
// What is shown was measured by somebody, perhaps by a stranger: it stands in a frame that may run no script, in a tab
// that knows nothing of this one.
const framed = (page) => {
  const text = page.replaceAll("&", "&amp;").replaceAll('"', "&quot;");
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Report</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>html, body, iframe { margin: 0; border: 0; width: 100%; height: 100%; display: block }
:root { color-scheme: light dark }</style></head>
<body><iframe sandbox="" title="The report" srcdoc="${text}"></iframe></body></html>`;
};

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
      if (tab) {
        tab.opener = null;
        tab.document.title = "Report";
        tab.document.body.textContent = "The report is being drawn. This takes some seconds.";
      }
      model.send({ ask: "page" });
    };
    const opened = ({ page, error }) => {
      if (!tab || tab.closed) return;
      if (error) tab.document.body.textContent = error;
      else tab.location = URL.createObjectURL(new Blob([framed(page)], { type: "text/html" }));
      tab = null;
    };
    const label = () => {
      const name = model.get("name");
      button.style.display = name ? "" : "none"; // the style sheet of buttons beats `hidden`
      button.title = name;
    };
    model.on("msg:custom", opened);
    model.on("change:name", label);
    label();
    el.append(button);
    return () => model.off("msg:custom", opened);
  },
};
