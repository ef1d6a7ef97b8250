import { goalOf } from './goals.ts';
import { BASELINE, type Mode } from './modes.ts';
import type { Judged } from './report.ts';

/** Horizontal bars of the ratio to the baseline, a tick at each goal. Readable on light and dark pages. */

const LABEL_WIDTH = 230;
const PLOT_WIDTH = 480;
const RIGHT = 60;
const BAR = 14;
const GAP = 14;
const TOP = 56;
const COLORS = ['#2a78d6', '#1b9e77', '#b45f06', '#7b5ea7'];
const STYLE = `text{font:12px system-ui,sans-serif;fill:#222}.soft{fill:#666}.grid{stroke:#ddd}.one{stroke:#666}.goal{stroke:#222;stroke-width:2}
@media(prefers-color-scheme:dark){text{fill:#eee}.soft{fill:#aaa}.grid{stroke:#444}.one{stroke:#aaa}.goal{stroke:#eee}}`;

function xml(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}

export function renderChart(judged: readonly Judged[], subtitle: string): string {
  const bars = judged.filter((one) => one.mode.id !== BASELINE && one.ratio !== null);
  const modes = [...new Set(bars.map((one) => one.mode))];
  const rows = [...new Set(bars.map((one) => one.row))];
  const goals = bars.map((one) => goalOf(one.mode.id, one.row)?.goal ?? 0);
  const max = Math.ceil(2 * Math.max(1, ...bars.map((one) => one.ratio!), ...goals)) / 2;
  const x = (ratio: number): number => LABEL_WIDTH + (ratio / max) * PLOT_WIDTH;
  const color = (mode: Mode): string => COLORS[modes.indexOf(mode) % COLORS.length]!;
  const parts: string[] = [];
  let y = TOP + 24;
  const plotTop = y;
  for (const row of rows) {
    const own = bars.filter((one) => one.row === row);
    const middle = y + (own.length * BAR) / 2 + 4;
    parts.push(`<text x="0" y="${middle}">${xml(row.title)}</text>`);
    for (const one of own) {
      const width = (x(one.ratio!) - LABEL_WIDTH).toFixed(1);
      const goal = goalOf(one.mode.id, row)?.goal;
      parts.push(
        `<rect x="${LABEL_WIDTH}" y="${y}" width="${width}" height="${BAR - 2}" rx="2" fill="${color(one.mode)}"><title>${xml(one.mode.title)}: ${one.ratio!.toFixed(2)}</title></rect>`,
        `<text class="soft" x="${x(Math.max(one.ratio!, goal ?? 0)) + 6}" y="${y + 10}">${one.ratio!.toFixed(2)}</text>`,
      );
      if (goal !== undefined) {
        parts.push(
          `<line class="goal" x1="${x(goal)}" x2="${x(goal)}" y1="${y - 1}" y2="${y + BAR - 1}"/>`,
        );
      }
      y += BAR;
    }
    y += GAP;
  }
  const grid: string[] = [];
  for (let ratio = 0; ratio <= max; ratio += 0.5) {
    const kind = ratio === 1 ? 'one' : 'grid';
    grid.push(
      `<line class="${kind}" x1="${x(ratio)}" x2="${x(ratio)}" y1="${plotTop - 6}" y2="${y}"/>`,
      `<text class="soft" x="${x(ratio)}" y="${plotTop - 10}" text-anchor="middle">${ratio}</text>`,
    );
  }
  const legend = modes.map((mode, index) => {
    const left = LABEL_WIDTH + index * 190;
    return `<rect x="${left}" y="${y + 6}" width="12" height="12" rx="2" fill="${color(mode)}"/><text x="${left + 18}" y="${y + 16}">${xml(mode.title)}</text>`;
  });
  const width = LABEL_WIDTH + PLOT_WIDTH + RIGHT;
  const height = y + 30;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>Throughput as a ratio to qemu-nbd</title><style>${STYLE}</style>
<text x="0" y="18" style="font-size:15px;font-weight:600">Throughput as a ratio to qemu-nbd (1 = the same; the tick is the goal)</text>
<text class="soft" x="0" y="38">${xml(subtitle)}</text>
${[...grid, ...parts, ...legend].join('\n')}
</svg>
`;
}
