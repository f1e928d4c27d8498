"""The style sheet of a report: light, dark, narrow and printed."""

STYLE = """
:root { color-scheme: light dark;
  --page: #f6f5f2; --card: #ffffff; --ink: #1d1f24; --soft: #5c616b; --rule: #e3e1dc;
  --c0: #1565b8; --c1: #c2500c; --c2: #0a7f5c; --c3: #9b3f8a; --c4: #86690a; --c5: #5b6270; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14161a; --card: #1d2026; --ink: #eceef1; --soft: #a3a9b4; --rule: #343942;
  --c0: #6cb2f5; --c1: #ff9a57; --c2: #4fcf9f; --c3: #e096d4; --c4: #e3c04d; --c5: #aab2c0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.2rem 1.25rem 3rem; max-width: 76rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
h1 { font-size: clamp(1.7rem, 5vw, 2.5rem); line-height: 1.15; margin: 0 0 .4rem;
  letter-spacing: -.02em; }
h2 { font-size: 1.5rem; margin: 3rem 0 .3rem; letter-spacing: -.01em; }
h3 { font-size: 1rem; margin: 0 0 .6rem; }
h3 small { font-weight: 400; color: var(--soft); margin-left: .5rem; }
h4 { font-size: .8rem; margin: 0 0 .3rem; color: var(--soft); font-weight: 600; }
p { margin: .3rem 0; }
a { color: var(--c0); }
nav a { margin-right: 1.2rem; }
.kicker { color: var(--c0); font-size: .85rem; font-weight: 600; margin: 0 0 .3rem; }
.lead { color: var(--soft); }
.note { border-left: 3px solid var(--c4); padding: .2rem .9rem; margin: 1rem 0; }
.tiles, .panels, .galleries, .options { display: grid; gap: 1rem; margin: 1rem 0; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); margin: 1.4rem 0; }
.panels { display: flex; flex-wrap: wrap; }
.panels > * { flex: 1 1 min(100%, 20rem); }
.galleries { grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
.options { grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1.5rem; }
.tile, .panel, .wide, main > section > details { background: var(--card); min-width: 0;
  border: 1px solid var(--rule); border-radius: 10px; padding: 1rem 1.1rem; }
.wide, main > section > details { margin: 1rem 0; }
.tile strong { display: block; font-size: clamp(1.5rem, 6vw, 1.9rem);
  line-height: 1.15; letter-spacing: -.02em; font-weight: 650; }
.tile span { display: block; }
.tile small, .panel > p, .wide > p, small { color: var(--soft); font-size: .84rem; }
.panel { display: flex; flex-direction: column; }
.panel > p { margin: .7rem 0 .4rem; line-height: 1.45; }
details summary { cursor: pointer; color: var(--soft); font-size: .84rem; }
details summary h3 { display: inline; color: var(--ink); font-size: 1rem; }
.panel > details { margin-top: auto; }
.panel > details .scroll { max-height: 18rem; margin-top: .5rem; }
.scroll { overflow: auto; }
.scroll table { min-width: max-content; }
table { border-collapse: collapse; font-size: .86rem; width: 100%; }
th, td { text-align: left; padding: .32rem .9rem .32rem 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; font-weight: 400; }
thead th { color: var(--soft); }
.cost thead { display: none; }
.cost table { min-width: 0; }
tr:last-child td, tr:last-child th { border-bottom: 0; }
.n { text-align: right; white-space: nowrap; padding: .32rem 0 .32rem .9rem; }
.options th { color: var(--soft); width: 11rem; }
.options td { color: var(--soft); }
.options td.set { color: var(--ink); font-weight: 600; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .92em; }
pre { white-space: pre-wrap; background: var(--page); padding: .8rem 1rem; border-radius: 8px;
  font-size: .84rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; font-size: 11.5px; }
text { fill: var(--soft); }
text.mark, text.label { fill: var(--ink); paint-order: stroke; stroke: var(--card);
  stroke-width: 3px; stroke-linejoin: round; }
text.mark { font-size: 11px; fill: var(--soft); }
.grid { stroke: var(--rule); }
.base { stroke: var(--soft); }
.reference { stroke: var(--soft); stroke-dasharray: 2 3; }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
polyline.thin { stroke-width: 1.4; }
polyline.dashed { stroke-dasharray: 5 4; }
.s0 { stroke: var(--c0); } .f0, text.t0 { fill: var(--c0); }
.s1 { stroke: var(--c1); } .f1, text.t1 { fill: var(--c1); }
.s2 { stroke: var(--c2); } .f2, text.t2 { fill: var(--c2); }
.s3 { stroke: var(--c3); } .f3, text.t3 { fill: var(--c3); }
.s4 { stroke: var(--c4); } .f4, text.t4 { fill: var(--c4); }
.s5 { stroke: var(--c5); } .f5, text.t5 { fill: var(--c5); }
.layers { list-style: none; margin: 0; padding: 0 .3rem 0 0; max-height: 26rem; overflow: auto;
  font-size: .86rem; }
.layers li { display: grid; grid-template-columns: 1fr auto; gap: 0 1rem; margin-bottom: .6rem; }
.layers b { font-weight: 500; }
.layers small { grid-column: 1 / -1; font-size: .76rem; }
.bar { grid-column: 1 / -1; height: .45rem; border-radius: 3px; background: var(--rule);
  overflow: hidden; margin: .15rem 0; }
.bar i { display: block; height: 100%; background: var(--c0); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(3.7rem, 1fr));
  gap: .55rem .45rem; }
.gallery figure { margin: 0; min-width: 0; }
.gallery img { width: 100%; aspect-ratio: 1; object-fit: cover; image-rendering: pixelated;
  border-radius: 4px; background: var(--rule); display: block; }
.gallery figcaption { font-size: .68rem; color: var(--soft); line-height: 1.3; margin-top: .15rem;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.gallery b { display: block; font-weight: 500; color: var(--ink); }
footer { color: var(--soft); font-size: .84rem; margin-top: 2.5rem; }
@media print { body { padding: 0; max-width: none; background: #fff; }
  .tile, .panel, .wide { break-inside: avoid; border-color: #bbb; }
  .galleries { grid-template-columns: 1fr 1fr; }
  .layers, .panel > details .scroll { max-height: none; } }
"""
