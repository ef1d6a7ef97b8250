import { FORMATS } from './formats.ts';
import type { LoadedConfig } from './load.ts';
import { rootNode, type SchemaNode } from './schema.ts';
import { join } from './walk.ts';

/** One key as `config show` prints it. */
export interface ConfigRow {
  readonly path: string;
  readonly value: unknown;
  /** 'default', 'FILE:LINE', 'env:NAME' or 'flag'. */
  readonly from: string;
  /** False for a key that changes nothing in this version. */
  readonly hasEffect: boolean;
}

/** Every value of a configuration with its origin, secrets masked. */
export function configRows({ config, provenance }: LoadedConfig): ConfigRow[] {
  const rows: ConfigRow[] = [];
  const visit = (schema: SchemaNode, value: unknown, path: string): void => {
    if (schema.properties !== undefined) {
      const table = value as Record<string, unknown>;
      for (const [key, child] of Object.entries(schema.properties)) {
        visit(child, table[key], join(path, key));
      }
    } else if (schema.items?.properties !== undefined) {
      for (const [index, item] of (value as unknown[]).entries()) {
        visit(schema.items, item, join(path, String(index)));
      }
    } else {
      rows.push({
        path,
        value: schema.format === 'busUrl' ? maskUrl(value as string) : value,
        from: provenance.get(path) ?? 'default',
        hasEffect: schema.effect !== 'later',
      });
    }
  };
  visit(rootNode, config, '');
  return rows;
}

/** Keys that somebody has set and that change nothing in this version: worth a warning at start. */
export function idleKeys(loaded: LoadedConfig): ConfigRow[] {
  return configRows(loaded).filter((row) => !row.hasEffect && row.from !== 'default');
}

/** A password in a URL must not reach a terminal or a log. */
export function maskUrl(text: string): string {
  if (text === '' || 'problem' in FORMATS.busUrl.parse(text)) return text;
  return text.replaceAll(/(\/\/[^:@/,]*:)[^@/,]*@/g, '$1***@');
}
