//! The style of the HTML pages: no assets from outside, light and dark, phone to desk.

pub(super) const STYLE: &str = r#"
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1c1e;--dim:#55585c;--line:#d8dade;--card:#f6f7f8;
--pass:#1b7f3b;--warn:#8a5a00;--fail:#b3261e;--na:#5f6368;--cnt:#6d3fb8;--code:#eef0f2;--link:#0b57d0}
@media (prefers-color-scheme:dark){:root{--bg:#151618;--fg:#e8eaed;--dim:#a5a9ae;--line:#3a3d41;
--card:#1e2023;--pass:#5bd583;--warn:#f2b84b;--fail:#ff8a80;--na:#9aa0a6;--cnt:#c6a6ff;--code:#26292d;
--link:#8ab4f8}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1rem;background:var(--bg);color:var(--fg);
font:16px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.2rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:1rem 0 .3rem}
p{margin:.4rem 0}a{color:var(--link)}
.dim{color:var(--dim)}.verdict{font-size:1.15rem;font-weight:600}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.5rem,1fr));gap:.5rem;margin:1rem 0}
.tile{border:1px solid var(--line);border-radius:.5rem;padding:.5rem .7rem;background:var(--card)}
.tile b{display:block;font-size:1.4rem;line-height:1.2}
.pass{color:var(--pass)}.warning{color:var(--warn)}.fail{color:var(--fail)}
.not-applicable,.manual{color:var(--na)}.could-not-test{color:var(--cnt)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;padding:.3rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tr.spec td{background:var(--card);font-weight:600}
details{border:1px solid var(--line);border-radius:.5rem;margin:.5rem 0;background:var(--card)}
details>summary{cursor:pointer;padding:.5rem .7rem;overflow-wrap:anywhere}
details>div{padding:0 .7rem .7rem}
.tag{display:inline-block;min-width:4.2rem;font-weight:700}
code,pre{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.85rem;overflow-wrap:anywhere}
pre{background:var(--code);padding:.5rem;border-radius:.3rem;margin:.3rem 0;overflow-x:auto;white-space:pre-wrap}
.message{border-left:3px solid var(--line);padding-left:.6rem;margin:.6rem 0}
.sent{border-color:var(--link)}.received{border-color:var(--warn)}
.filters{display:flex;flex-wrap:wrap;gap:.4rem;margin:.5rem 0}
.filters button{font:inherit;padding:.25rem .7rem;border:1px solid var(--line);border-radius:1rem;
background:var(--bg);color:var(--fg);cursor:pointer}
.filters button[aria-pressed=true]{background:var(--fg);color:var(--bg)}
.hidden{display:none}
@media print{details>div{display:block}.filters{display:none}}
"#;
