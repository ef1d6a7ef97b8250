// Writes docs/errors.md from the error tables of all libs and services: `npm run docs`.
import { globSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { errorTables } from '#core/errors.ts';

const ROOT = resolve(import.meta.dirname, '..');
export const ERRORS_DOC = join(ROOT, 'docs/errors.md');

const INTRO = `# Errors

Every error that Orion reports has a code that does not change. Match on the code; the text may say more in a particular
case. This page is generated from the tables in the sources (\`npm run docs\`).

The **outcome** says what is known about the effect of the request that failed:

| outcome | meaning |
|---|---|
| not-executed | The target did not and will not execute it. It may be sent again, on any path. |
| terminated | It may have been executed, but cannot be any more. It may be sent again. |
| unknown | It may still be executed later. Nothing that overlaps is sent before it is fenced. |
| final | This is the answer. It is not tried again. |

**errno** is what an NBD client is shown.
`;

/** Loads every table of the program. */
export async function loadErrorTables(): Promise<ReturnType<typeof errorTables>> {
  for (const file of globSync('{libs,services}/*/errors.ts', { cwd: ROOT }).sort()) {
    // core's own file defines the tables' shape.
    if (file !== 'libs/core/errors.ts') await import(pathToFileURL(join(ROOT, file)).href);
  }
  return errorTables();
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

export async function renderErrors(): Promise<string> {
  const tables = [...(await loadErrorTables())].sort((a, b) => (a.lib < b.lib ? -1 : 1));
  const sections = tables.map(({ lib, specs }) => {
    const rows = Object.entries(specs).map(
      ([code, spec]) =>
        `| \`${code}\` | ${cell(spec.text)} | ${cell(spec.hint)} | ${spec.outcome} | ${spec.errno ?? 'EIO'} |`,
    );
    return [
      `\n## ${lib}\n`,
      '| code | what it means | what to do | outcome | errno |',
      '|---|---|---|---|---|',
      ...rows,
    ].join('\n');
  });
  return `${INTRO}${sections.join('\n')}\n`;
}

if (import.meta.main) writeFileSync(ERRORS_DOC, await renderErrors());
