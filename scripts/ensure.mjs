// Makes sure of what a command needs, so that it works on a fresh clone: `node scripts/ensure.mjs [--for demo|test]`.
// Silent and quick when everything is there. Plain JavaScript that old versions of Node understand.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { NODE, ROOT } from './pinned.mjs';

const readJson = (path) => JSON.parse(readFileSync(join(ROOT, path), 'utf8'));
const say = (text) => process.stderr.write(`${text}\n`);

/** Why `npm ci` has to run, or null. npm keeps a copy of the lock of what it installed in node_modules. */
function modulesStale() {
  if (!existsSync(NODE)) return 'node_modules is missing';
  const wanted = readJson('package-lock.json').packages;
  let have;
  try {
    have = readJson('node_modules/.package-lock.json').packages;
  } catch {
    return 'node_modules is incomplete';
  }
  for (const [path, entry] of Object.entries(wanted)) {
    // Optional ones are left out where they do not fit the machine.
    if (path === '' || (have[path] === undefined && entry.optional)) continue;
    if (have[path]?.version !== entry.version)
      return 'node_modules is older than package-lock.json';
  }
  return null;
}

function ensureModules() {
  const reason = modulesStale();
  if (reason === null) return;
  say(`${reason}: running npm ci`);
  const npm = process.env.npm_execpath;
  const [command, ...first] = npm ? [process.execPath, npm] : ['npm'];
  const args = [
    ...first,
    'ci',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    '--no-update-notifier',
  ];
  const { status } = spawnSync(command, args, { cwd: ROOT, stdio: ['ignore', 2, 2] });
  if (status !== 0 || !existsSync(NODE)) {
    say(
      'npm ci failed: see above. It needs the npm registry, and install scripts for the package "node".',
    );
    process.exit(1);
  }
}

/** Keep in step with hasTool of libs/testkit/tools.ts, which cannot be imported by an old Node. */
function hasTool(name, entry) {
  if (entry.directory !== undefined) {
    const found = (base) => existsSync(join(base, entry.file));
    return (
      found(entry.directory) ||
      readdirSync(entry.directory).some((child) => found(join(entry.directory, child)))
    );
  }
  const path = [
    ...(process.env.PATH ?? '').split(delimiter),
    '/usr/local/sbin',
    '/usr/sbin',
    '/sbin',
  ];
  return path.some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function missingPackages() {
  const tools = Object.entries(readJson('libs/testkit/tools.json'));
  const missing = tools.filter(([name, entry]) => !hasTool(name, entry));
  return [...new Set(missing.map(([, entry]) => entry.package))];
}

/** The pinned Node links to a library that a small system may lack. */
function ensureNodeRuns() {
  const { status, stderr } = spawnSync(NODE, ['--version'], { encoding: 'utf8' });
  if (status === 0) return;
  if (/libatomic/.test(stderr) && isDebianRoot()) {
    install(['libatomic1']);
    if (spawnSync(NODE, ['--version']).status === 0) return;
  }
  say(
    `${stderr.trim()}\nThe pinned Node does not run here. On Debian: sudo apt-get install libatomic1`,
  );
  process.exit(1);
}

function apt(...args) {
  return spawnSync(
    'apt-get',
    ['-qq', '-o', 'Dpkg::Use-Pty=0', '-o', 'DPkg::Lock::Timeout=300', ...args],
    {
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
    },
  );
}

const hasApt = () => existsSync('/usr/bin/apt-get');
const isDebianRoot = () => hasApt() && process.getuid() === 0;

/** True when all of them are installed afterwards. */
function install(packages) {
  say(`Installing Debian packages: ${packages.join(' ')}`);
  const args = ['install', '-y', '--no-install-recommends', ...packages];
  // The package lists of a fresh machine are empty or too old.
  if (apt(...args).status === 0) return true;
  const update = apt('update');
  const second = apt(...args);
  if (second.status === 0) return true;
  say(`${update.stderr}${second.stdout}${second.stderr}`.trim());
  return false;
}

function ensurePackages() {
  const missing = missingPackages();
  if (missing.length === 0) return;
  const names = missing.join(' ');
  if (!isDebianRoot()) {
    const how = hasApt() ? `: sudo apt-get install ${names}` : ` (Debian names): ${names}`;
    say(`Tests that need other programs will be skipped. To run them, install${how}`);
  } else if (!install(missing)) {
    say(`apt-get could not install ${names}: the tests that need them will not run.`);
  }
}

ensureModules();
ensureNodeRuns();
const purpose = process.argv[process.argv.indexOf('--for') + 1];
if (purpose === 'test') ensurePackages();
