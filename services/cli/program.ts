import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import type { RoleName } from '#config/derive.ts';
import { errorText } from '#core/errors.ts';
import { checkConfig, showConfig } from './config-commands.ts';
import { EXIT_CODES_TEXT, Exit, exitCodeOf } from './exit-code.ts';
import { type CommonOptions, loadCliConfig } from './load-config.ts';
import {
  connectionInfo,
  multipathInfo,
  networkStats,
  notYet,
  performanceStats,
  type Report,
  sessionInfo,
  targetInfo,
} from './management.ts';
import { type Output, standardOutput } from './output.ts';
import { showStatus } from './status.ts';

interface UpOptions extends CommonOptions {
  readonly embedded?: boolean;
}

interface RoleCommandOptions extends CommonOptions {
  readonly id?: string;
  readonly supervised?: boolean;
}

const EDIT_FILE = 'edit the configuration file and restart "orion-iscsi up"';

/** The commands of the specification that later versions bring, with what to do until then. */
const LATER: readonly (readonly [string, string, string, string])[] = [
  [
    'session',
    'reset',
    'log a session in anew',
    'A lost session comes back by itself; restarting the worker logs all of its sessions in anew.',
  ],
  ['session', 'remove', 'end a session', `Take the volume or the portal away: ${EDIT_FILE}.`],
  ['connection', 'reset', 'make a connection anew', 'A lost connection comes back by itself.'],
  ['connection', 'remove', 'end a connection', `Take the portal away: ${EDIT_FILE}.`],
  ['target', 'add', 'add a target', `Add a [[targets]] table: ${EDIT_FILE}.`],
  ['target', 'remove', 'remove a target', `Remove its [[targets]] table: ${EDIT_FILE}.`],
  [
    'multipath',
    'config',
    'change the policy of a volume',
    `Set policy in its [[volumes]] table: ${EDIT_FILE}.`,
  ],
];

const REPORTS: readonly (readonly [string, string, string, Report])[] = [
  ['session', 'info', 'show the iSCSI sessions', sessionInfo],
  ['connection', 'info', 'show the connections of the sessions', connectionInfo],
  ['target', 'info', 'show the targets and who is logged in to them', targetInfo],
  ['multipath', 'info', 'show the volumes with their paths', multipathInfo],
  ['performance', 'stats', 'show counters and latencies of volumes and paths', performanceStats],
  ['network', 'stats', 'show the data that went over each portal', networkStats],
];

/** Runs one command line. Resolves the exit code; has told the user by then. */
export async function run(argv: readonly string[]): Promise<number> {
  const state = { exitCode: Exit.Ok as number };
  const program = build((code) => {
    state.exitCode = code;
  });
  try {
    await program.parseAsync(argv, { from: 'user' });
    return state.exitCode;
  } catch (error) {
    // Commander has said what is wrong with the line itself.
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.Ok : Exit.Usage;
    standardOutput(false).error(errorText(error));
    return exitCodeOf(error);
  }
}

function build(exit: (code: number) => void): Command {
  const program = new Command('orion-iscsi')
    .description(
      'User-space iSCSI initiator: iSCSI volumes over NBD and HTTP, with multipath and failover.',
    )
    .version(version(), '--version')
    .addHelpText('after', `\n${EXIT_CODES_TEXT}`)
    .exitOverride()
    .showSuggestionAfterError();
  addRunning(program, exit);
  addLooking(program, exit);
  for (const [group, verb, text, show] of REPORTS) {
    common(groupOf(program, group).command(verb).description(text)).action((options) =>
      show(loadCliConfig(options).config, outputOf(options)),
    );
  }
  for (const [group, verb, text, instead] of LATER) {
    common(groupOf(program, group).command(verb).description(`${text} (not available yet)`))
      .allowExcessArguments()
      .allowUnknownOption()
      .action(() => notYet(`${group} ${verb}`, instead));
  }
  return program;
}

function addRunning(program: Command, exit: (code: number) => void): void {
  common(program.command('demo'))
    .description('try it: a target of our own, one volume over two paths, NBD and HTTP on loopback')
    .action(async (options: CommonOptions) => {
      exit(await (await import('./demo.ts')).demo(outputOf(options)));
    });
  common(program.command('up'))
    .description('run a node: coordinator, workers and gateway, looked after by a supervisor')
    .option('--embedded', 'all in one process, without nats-server')
    .action(async (options: UpOptions) => {
      const flags = options.embedded === true ? ['bus.embedded=true'] : [];
      const loaded = loadCliConfig(options, flags);
      const output = outputOf(options);
      if (loaded.config.bus.embedded)
        exit(await (await import('./embedded.ts')).upEmbedded(loaded, output));
      else exit(await (await import('./up.ts')).up(loaded, output));
    });
  for (const role of ['coordinator', 'worker', 'gateway'] as const) addRole(program, role, exit);
}

function addRole(program: Command, role: RoleName, exit: (code: number) => void): void {
  common(program.command(role))
    .description(`run one ${role} alone, for a cluster; needs bus.url`)
    .option('--id <id>', `id of the process, unique in the cluster, as in "n1-${role[0]}0"`)
    .addOption(new Option('--supervised').hideHelp())
    .action(async (options: RoleCommandOptions) => {
      const { runRole } = await import('./role.ts');
      const isSupervised = options.supervised === true;
      const id = options.id === undefined ? {} : { id: options.id };
      exit(await runRole(loadCliConfig(options), { role, isSupervised, ...id }, outputOf(options)));
    });
}

function addLooking(program: Command, exit: (code: number) => void): void {
  common(program.command('status'))
    .description('show what runs: processes, volumes, paths, sessions')
    .action((options: CommonOptions) =>
      showStatus(loadCliConfig(options).config, outputOf(options)),
    );
  const config = groupOf(program, 'config');
  common(config.command('show').description('print every value with where it came from')).action(
    (options: CommonOptions) => showConfig(loadCliConfig(options), outputOf(options)),
  );
  common(config.command('check').description('say what is wrong with the configuration')).action(
    (options: CommonOptions) => exit(checkConfig(options, outputOf(options))),
  );
  common(program.command('doctor').description('check everything that a node needs')).action(
    async (options: CommonOptions) => {
      exit(await (await import('./doctor.ts')).doctor(options, outputOf(options)));
    },
  );
}

const GROUPS: Readonly<Record<string, string>> = {
  session: 'iSCSI sessions',
  connection: 'connections of sessions',
  target: 'iSCSI targets',
  multipath: 'paths of volumes',
  performance: 'performance of volumes',
  network: 'traffic to targets',
  config: 'the configuration',
};

function groupOf(program: Command, name: string): Command {
  const known = program.commands.find((command) => command.name() === name);
  return known ?? program.command(name).description(GROUPS[name] ?? '');
}

/** The options that every command has. */
function common(command: Command): Command {
  return command
    .option(
      '--config <file>',
      'configuration file (default: $ORION_CONFIG, then /etc/orion-iscsi/config.toml)',
    )
    .option('--set <key=value>', 'override a key of the configuration; may be repeated', collect)
    .option('--json', 'print JSON');
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

function outputOf(options: CommonOptions): Output {
  return standardOutput(options.json === true);
}

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
