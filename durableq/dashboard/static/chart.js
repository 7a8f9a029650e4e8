"use strict";
// Draws the charts of a queue from the numbers in the page, and again when they are renewed.
(function () {
  var places = { depth: document.getElementById("depth"), rates: document.getElementById("rates") };
  var charts = [];
  if (!window.uPlot || !places.depth) { return; }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function clock(seconds) {
    var at = new Date(seconds * 1000);
    return String(at.getHours()).padStart(2, "0") + ":" + String(at.getMinutes()).padStart(2, "0");
  }

  function axis(more) {
    var line = { stroke: colour("--line"), width: 1 };
    return Object.assign({ stroke: colour("--dim"), grid: line, ticks: line, font: "11px system-ui" }, more);
  }

  function chart(place, lines, series, path) {
    var drawn = series.map(function (each) {
      return { label: each[0], stroke: colour(each[1]), width: 1.5, paths: path, points: { show: false } };
    });
    return new uPlot({
      width: place.clientWidth, height: 170,
      scales: { x: { range: [lines.from, lines.to] }, y: { range: function (_, low, high) { return [0, Math.max(1, high * 1.05)]; } } },
      series: [{ label: "time", value: function (_, at) { return at === null ? "–" : clock(at); } }].concat(drawn),
      axes: [axis({ values: function (_, splits) { return splits.map(clock); } }), axis({ size: 56 })]
    }, [lines.at].concat(lines[place.id]), place);
  }

  function draw() {
    var lines = JSON.parse(document.getElementById("day").dataset.lines);
    charts.forEach(function (each) { each.destroy(); });
    charts = [
      chart(places.depth, lines, [["ready", "--link"], ["delayed", "--warn"], ["in flight", "--ok"]], uPlot.paths.linear()),
      chart(places.rates, lines, [["in/s", "--link"], ["out/s", "--ok"]], uPlot.paths.stepped({ align: -1 }))
    ];
  }

  document.body.addEventListener("htmx:oobAfterSwap", function (event) {
    if (event.detail.target.id === "day") { draw(); }
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  window.addEventListener("resize", draw);
  draw();
})();
