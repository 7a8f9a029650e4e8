// A page that is opened as a file may start no worker, and the search is one. Its script runs in a frame of the page.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.frame = frame;
      frame.contentWindow.postMessage = (data) => {
        // Later, as a worker answers: not inside the call that asks.
        setTimeout(() => this.onmessage?.(new MessageEvent("message", { data })));
      };
      const script = frame.contentDocument.createElement("script");
      script.src = new URL(url, location.href);
      this.loaded = new Promise((done) => script.addEventListener("load", done));
      frame.contentDocument.body.append(script);
    }

    postMessage(data) {
      this.loaded.then(() => {
        const inner = this.frame.contentWindow;
        // Of the frame's own classes, as a worker gets it.
        inner?.onmessage(new inner.MessageEvent("message", { data: inner.structuredClone(data) }));
      });
    }

    terminate() {
      this.frame.remove();
    }
  };
}
