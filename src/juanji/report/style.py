"""The report's style sheet: light and dark, wide and narrow, on paper."""

from __future__ import annotations

from juanji.report.drawing import COLOURS

_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--band);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"PingFang SC","Microsoft YaHei","Noto Sans CJK SC","Noto Sans SC",sans-serif;overflow-wrap:anywhere}
header,main,footer{max-width:1120px;margin:0 auto;padding:0 20px}
header{padding-top:36px}
h1{font-size:1.75rem;line-height:1.2;margin:.1em 0 .3em;letter-spacing:-.01em}
h2{font-size:1.25rem;margin:0 0 .5em}
h3{font-size:1rem;margin:1.4em 0 .4em}
p{margin:.4em 0 .9em;max-width:75ch}
small,.muted{color:var(--muted)}
.eyebrow{color:var(--muted);font-size:.85rem;margin:0}
nav{display:flex;flex-wrap:wrap;gap:6px 18px;margin:18px 0 0;font-size:.9rem}
a{color:var(--second)}
section{background:var(--paper);border:1px solid var(--grid);border-radius:12px;padding:22px 24px;margin:20px 0;
scroll-margin-top:12px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(215px,1fr));gap:12px;margin:20px 0 0;padding:0;
list-style:none}
.tiles li{background:var(--paper);border:1px solid var(--grid);border-radius:12px;padding:14px 16px}
.tiles b{display:block;font-size:1.5rem;line-height:1.25;font-variant-numeric:tabular-nums}
.tiles li:first-child b{color:var(--second)}
.tiles span{font-size:.85rem}
.tiles small{display:block;font-size:.78rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));gap:18px}
svg{max-width:100%;height:auto;display:block;font-family:inherit}
.scroll{overflow-x:auto}
.scroll svg{max-width:none}
.beside{display:flex;flex-wrap:wrap;gap:24px 40px;align-items:flex-start}
.beside>*{min-width:0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--muted);padding-bottom:6px}
th,td{padding:6px 14px 6px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--grid)}
thead th{color:var(--muted);font-weight:500;white-space:nowrap}
tbody th{font-weight:500}
td.n,th.n{text-align:right}
td.n{white-space:nowrap}
tbody th{min-width:6.5em}
td.bar{min-width:110px}
.bar i{display:block;height:6px;margin-top:3px;border-radius:3px;background:var(--grid)}
.bar i u{display:block;height:6px;border-radius:3px;background:var(--heat)}
.facts th{color:var(--muted);font-weight:400;padding-right:22px}
code{font:.86em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,250px),1fr));gap:18px}
figure{margin:0}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:4px;border-radius:8px;overflow:hidden}
.pair img{width:100%;height:auto;display:block}
figcaption{font-size:.88rem;line-height:1.4;margin-top:6px}
figcaption small{display:block;font-size:.76rem}
.wrong{color:var(--wrong)}.right{color:var(--right)}
ul{margin:.3em 0 1em;padding-left:1.2em}
details summary{cursor:pointer;color:var(--second)}
details{margin-top:12px}
footer{color:var(--muted);font-size:.85rem;padding-bottom:40px}
@media (max-width:560px){header,main,footer{padding-left:12px;padding-right:12px}section{padding:16px 14px}
h1{font-size:1.4rem}.tiles{grid-template-columns:1fr 1fr}.tiles b{font-size:1.25rem}th,td{padding-right:10px}
td.bar{min-width:64px}}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
@media print{body{background:none}section{border:0;padding:0;break-inside:auto}figure,tr,svg{break-inside:avoid}
nav{display:none}}
"""


def _variables(column: int) -> str:
    return "".join(f"--{name}:{pair[column]};" for name, pair in COLOURS.items())


def sheet() -> str:
    """The style sheet. Dark where the reader's system is; paper is always light."""
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(1)}}}}}"
    return f":root{{color-scheme:light dark;{_variables(0)}}}{dark}{_RULES}".replace("\n", "")
