import { ConfigProblems } from '#config/problems.ts';
import { type ConfigRow, configRows } from '#config/rows.ts';
import { Exit } from './exit-code.ts';
import { type CommonOptions, fileOf, loadCliConfig } from './load-config.ts';
import { type Output, table } from './output.ts';

/** `config show`: every value with where it came from. */
export function showConfig(options: CommonOptions, output: Output): number {
  const rows = configRows(loadCliConfig(options));
  output.line(output.json ? JSON.stringify(rows, null, 2) : rowsTable(rows));
  return Exit.Ok;
}

function rowsTable(rows: readonly ConfigRow[]): string {
  return table(
    ['KEY', 'VALUE', 'FROM', ''],
    rows.map(({ path, value, from, hasEffect }) => [
      path,
      JSON.stringify(value),
      from,
      hasEffect ? '' : 'no effect yet',
    ]),
  );
}

/** `config check`: says what is wrong, or that all is well. */
export function checkConfig(options: CommonOptions, output: Output): number {
  try {
    const { config } = loadCliConfig(options);
    const text = `${fileOf(options) ?? 'the configuration'} is good: ${config.targets.length} targets, ${config.volumes.length} volumes`;
    output.line(output.json ? JSON.stringify({ ok: true, problems: [] }) : text);
    return Exit.Ok;
  } catch (error) {
    if (!output.json || !(error instanceof ConfigProblems)) throw error;
    output.line(JSON.stringify({ ok: false, problems: error.problems }, null, 2));
    return Exit.Config;
  }
}
