"use strict";
// Renews the parts of a page when the store has changed. Without this script the pages are whole.
(function () {
  var updates = document.getElementById("updates");
  if (!updates || !window.EventSource) { return; }
  var shown = document.getElementById("live");
  var source = null;

  function say(word) { shown.textContent = word; shown.className = "tag " + word.replace(/ /g, "-"); }

  function open() {
    source = new EventSource(updates.dataset.events);
    source.onopen = function () { say("live"); };
    source.onerror = function () { say("not connected"); };
    source.addEventListener("change", function () { htmx.trigger(updates, "changed"); });
  }

  function close() {
    if (source) { source.close(); source = null; say("paused"); }
  }

  // A part in which a person is typing or selecting is left as it is.
  function isUsed(part) {
    var active = document.activeElement;
    var fields = part.querySelectorAll("input:not([type=hidden]), textarea");
    return Array.from(fields).some(function (field) { return field.value !== field.defaultValue; }) || part.querySelector("input:checked, details[open]:not([data-open])") !== null ||
      (part.contains(active) && /^(INPUT|SELECT|TEXTAREA)$/.test(active.tagName));
  }

  document.body.addEventListener("htmx:oobBeforeSwap", function (event) {
    if (isUsed(event.detail.target)) { event.detail.shouldSwap = false; }
  });
  document.body.addEventListener("htmx:responseError", function () { say("not up to date"); });
  document.body.addEventListener("htmx:afterRequest", function (event) {
    if (event.detail.successful && source) { say("live"); }
  });
  document.addEventListener("visibilitychange", function () {
    if (document.hidden) { close(); } else if (!source) { open(); htmx.trigger(updates, "changed"); }
  });
  window.addEventListener("pagehide", close);
  if (!document.hidden) { open(); }
})();
