import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { configDoc } from '#config/doc.ts';

/** Writes docs/config.md; a test beside the schema fails when it is stale. */
const path = fileURLToPath(new URL('../docs/config.md', import.meta.url));
mkdirSync(fileURLToPath(new URL('../docs/', import.meta.url)), { recursive: true });
writeFileSync(path, configDoc());
