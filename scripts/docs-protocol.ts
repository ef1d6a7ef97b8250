// Writes docs/protocol-support.md and the comparison in README.md from the table in test/protocol: `npm run docs`.
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type KeyDefinition, keys } from '#iscsi/keys.ts';
import type { Group, Mark, Row } from '../test/protocol/row.ts';
import { allRows, groups, isDone } from '../test/protocol/table.ts';

const ROOT = resolve(import.meta.dirname, '..');
export const PROTOCOL_DOC = join(ROOT, 'docs/protocol-support.md');
export const README = join(ROOT, 'README.md');

const BLOCK = /<!-- protocol -->\n[\s\S]*?<!-- \/protocol -->/;

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;').replaceAll('*', '\\*');
}

function count(rows: readonly Row[], is: (row: Row) => boolean): number {
  return rows.filter(is).length;
}

const onlyHere = (row: Row): boolean => row.status === 'done, shown on our own target only';

function evidence(row: Row): string {
  const tests = row.tests.map(
    ([file, name]) => `[${file.replace(/\.test\.ts$/, '')}](../${file}): ${cell(name)}`,
  );
  return [...(row.reason === '' ? [] : [cell(row.reason)]), ...tests].join('<br>');
}

function section(group: Group): string {
  const rows = group.rows.map(
    (row) =>
      `| ${row.id} | ${cell(row.behaviour)} | ${cell(row.source)} | ${row.status} | ${evidence(row)} |`,
  );
  return [
    `\n## ${group.letter}. ${group.title}\n`,
    `${count(group.rows, (row) => isDone(row.status))} of ${group.rows.length} rows are done.\n`,
    '| row | what the initiator does | clause | status | shown by, or why not |',
    '|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

function range(key: KeyDefinition): string {
  if (key.type === 'number') return `${key.range[0]} to ${key.range[1]}`;
  if (key.type === 'boolean') return 'Yes, No';
  return key.type === 'list' ? key.values.join(', ') : `up to ${key.maxBytes} bytes`;
}

function standard(key: KeyDefinition): string {
  if (key.type === 'text') return '';
  return typeof key.default === 'boolean' ? (key.default ? 'Yes' : 'No') : String(key.default);
}

function keyTable(): string {
  const rows = (Object.entries(keys) as [string, KeyDefinition][]).map(([name, key]) => {
    const result = key.type === 'text' ? undefined : key.result;
    return `| \`${name}\` | ${range(key)} | ${standard(key)} | ${result ?? 'declared'} | ${key.scope} | ${key.sender} | §${key.section} |`;
  });
  return [
    '\n## Keys\n',
    'The login is driven by one table, `libs/iscsi/keys.ts`; this is what it says. They are not counted as rows above.\n',
    '| key | values | default | result | holds for | first sent by | clause |',
    '|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

export function renderProtocol(): string {
  const all = allRows.length;
  const complete = count(allRows, (row) => isDone(row.status));
  const intro = `# Protocol support

What an iSCSI initiator has to do, row by row, and what Orion does of it. This page is generated from the table in
\`test/protocol\` (\`npm run docs\`); a test fails when a row has neither a test nor a reason, or when a test that is named here is
not there. Clauses are of RFC 7143 unless another document is named.

Each row is counted once: ${groups.map(({ letter, rows }) => `${letter} ${rows.length}`).join(', ')}, together ${all}.

| status | meaning | rows |
|---|---|---|
| done | It is shown by the tests that are named. | ${count(allRows, (row) => row.status === 'done')} |
| done, shown on our own target only | It is shown too, but no other target of the test suite has the other half of it. | ${count(allRows, onlyHere)} |
| partly | A part of it is there; the row says which is not. | ${count(allRows, (row) => row.status === 'partly')} |
| not done | The row says why. | ${count(allRows, (row) => row.status === 'not done')} |

**${complete} of ${all} rows are done.**
`;
  return `${intro}${groups.map(section).join('\n')}\n${keyTable()}\n`;
}

function marks(group: readonly Row[], of: (row: Row) => Mark): string {
  const number = (mark: Mark): number => count(group, (row) => of(row) === mark);
  return `${number('Y')} / ${number('P')} / ${number('N')}`;
}

function comparisonRow(title: string, rows: readonly Row[]): string {
  const orion = [
    count(rows, (row) => isDone(row.status)),
    count(rows, (row) => row.status === 'partly'),
    count(rows, (row) => row.status === 'not done'),
  ].join(' / ');
  const libiscsi = marks(rows, (row) => row.libiscsi);
  const openIscsi = marks(rows, (row) => row.openIscsi);
  return `| ${title} | ${rows.length} | ${orion} | ${libiscsi} | ${openIscsi} |`;
}

/** What stands between the markers in README.md, with them. */
function comparison(): string {
  const head = [
    '| rows about | all | Orion | libiscsi | open-iscsi and kernel |',
    '|---|---|---|---|---|',
  ];
  const lines = groups.map(({ letter, title, rows }) => comparisonRow(`${letter}. ${title}`, rows));
  const remarks = groups.map(({ letter, others }) => `* **${letter}**: ${others}`);
  return [
    '<!-- protocol -->',
    `What an initiator has to do has ${allRows.length} rows here; [docs/protocol-support.md](docs/protocol-support.md) lists each with its clause and the test that shows it.`,
    'Each cell says how many a program does, does in part, and does not. What others do was read in their sources (libiscsi of June 2026,',
    'open-iscsi of March 2026 with the kernel module of Linux 5.1), not tested; rows that were not read, or do not apply, are left out.',
    `Of the rows that Orion does, ${count(allRows, onlyHere)} are shown on our own target only, because no other one of the test suite has the other half.`,
    '',
    ...head,
    ...lines,
    comparisonRow('**all**', allRows),
    '',
    ...remarks,
    '<!-- /protocol -->',
  ].join('\n');
}

/** README.md with the comparison as the table has it; null when it has no place for it. */
export function withComparison(readme: string): string | null {
  return BLOCK.test(readme) ? readme.replace(BLOCK, () => comparison()) : null;
}

if (import.meta.main) {
  writeFileSync(PROTOCOL_DOC, renderProtocol());
  const readme = withComparison(readFileSync(README, 'utf8'));
  if (readme === null) throw new Error('README.md has lost its protocol block');
  writeFileSync(README, readme);
}
