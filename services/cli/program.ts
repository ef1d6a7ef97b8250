import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import type { RoleName } from '#config/derive.ts';
import { errorText } from '#core/errors.ts';
import type { DiscoverOptions } from './discover.ts';
import { EXIT_CODES_TEXT, Exit, exitCodeOf } from './exit-code.ts';
import { LATER, notYet } from './later.ts';
import type { CommonOptions } from './load-config.ts';
import type { ReportName } from './management.ts';
import { type Output, outputTo, type Streams } from './output.ts';
import type { ReconnectOptions } from './reconnect.ts';

// What a command needs is loaded when it runs: help and errors of the command line come at once.

interface UpOptions extends CommonOptions {
  readonly embedded?: boolean;
}

interface RoleCommandOptions extends CommonOptions {
  readonly id?: string;
  readonly supervised?: boolean;
}

const REPORTS: readonly (readonly [string, string, string, ReportName])[] = [
  ['session', 'info', 'show the iSCSI sessions', 'sessionInfo'],
  ['connection', 'info', 'show the connections of the sessions', 'connectionInfo'],
  ['target', 'info', 'show the targets and who is logged in to them', 'targetInfo'],
  ['multipath', 'info', 'show the volumes with their paths', 'multipathInfo'],
  ['performance', 'stats', 'show counters and latencies of volumes and paths', 'performanceStats'],
  ['network', 'stats', 'show the data that went over each portal', 'networkStats'],
];

/** Sessions go out of service one by one and come back, without an error at any client. */
const RECONNECTS = [
  ['session', 'reset', 'log sessions out and in again, in good order'],
  ['session', 'reconnect', 'the same as session reset'],
  ['connection', 'reset', 'make all connections of sessions anew, in good order'],
] as const;

const GROUPS: Readonly<Record<string, string>> = {
  session: 'iSCSI sessions',
  connection: 'connections of sessions',
  target: 'iSCSI targets',
  multipath: 'paths of volumes',
  performance: 'performance of volumes',
  network: 'traffic to targets',
  config: 'the configuration',
};

/** Runs one command line. Resolves the exit code; has told the user by then. */
export async function run(argv: readonly string[], streams: Streams): Promise<number> {
  const program = new Program(streams);
  try {
    await program.root.parseAsync(argv, { from: 'user' });
    return program.exitCode;
  } catch (error) {
    // Commander has said what is wrong with the line itself.
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.Ok : Exit.Usage;
    outputTo(streams, false).error(errorText(error));
    return exitCodeOf(error);
  }
}

/** Does the work of a command; resolves the exit code. */
type Action<O extends CommonOptions> = (
  options: O,
  output: Output,
  args: readonly string[],
) => Promise<number>;

class Program {
  readonly root: Command;
  exitCode: number = Exit.Ok;
  readonly #streams: Streams;

  constructor(streams: Streams) {
    this.#streams = streams;
    this.root = new Command('orion-iscsi')
      .description(
        'User-space iSCSI initiator: iSCSI volumes over NBD and HTTP, with multipath and failover.',
      )
      .version(version(), '--version')
      .addHelpText('after', `\n${EXIT_CODES_TEXT}`)
      .configureOutput({ writeOut: streams.out, writeErr: streams.err })
      .exitOverride()
      .showSuggestionAfterError();
    this.#addRunning();
    for (const role of ['coordinator', 'worker', 'gateway'] as const) this.#addRole(role);
    this.#addLooking();
    this.#addTargets();
    this.#addManagement();
  }

  #addRunning(): void {
    const demo = this.root
      .command('demo')
      .description(
        'try it: a target of our own, one volume over two paths, NBD and HTTP on loopback',
      );
    this.#does(demo, async (_options, output) => (await import('./demo.ts')).demo(output));
    const up = this.root
      .command('up')
      .description('run a node: coordinator, workers and gateway, looked after by a supervisor')
      .option('--embedded', 'all in one process, without nats-server');
    this.#does<UpOptions>(up, async (options, output) => {
      const { loadCliConfig } = await import('./load-config.ts');
      const flags = options.embedded === true ? ['bus.embedded=true'] : [];
      const loaded = loadCliConfig(options, flags);
      if (!loaded.config.bus.embedded) return (await import('./up.ts')).up(loaded, output);
      return (await import('./embedded.ts')).upEmbedded(loaded, output);
    });
  }

  #addRole(role: RoleName): void {
    const command = this.root
      .command(role)
      .description(`run one ${role} alone, for a cluster; needs bus.url`)
      .option('--id <id>', `id of the process, unique in the cluster, as in "n1-${role[0]}0"`)
      .addOption(new Option('--supervised').hideHelp());
    this.#does<RoleCommandOptions>(command, async (options, output) => {
      const { loadCliConfig } = await import('./load-config.ts');
      const loaded = loadCliConfig(options);
      const { runRole } = await import('./role.ts');
      const id = options.id === undefined ? {} : { id: options.id };
      return runRole(loaded, { role, isSupervised: options.supervised === true, ...id }, output);
    });
  }

  #addLooking(): void {
    const status = this.root
      .command('status')
      .description('show what runs: processes, volumes, paths, sessions');
    this.#does(status, async (options, output) => {
      const { loadCliConfig } = await import('./load-config.ts');
      const { config } = loadCliConfig(options);
      await (await import('./status.ts')).showStatus(config, output);
      return Exit.Ok;
    });
    const show = this.#group('config')
      .command('show')
      .description('print every value with where it came from');
    this.#does(show, async (options, output) =>
      (await import('./config-commands.ts')).showConfig(options, output),
    );
    const check = this.#group('config')
      .command('check')
      .description('say what is wrong with the configuration');
    this.#does(check, async (options, output) =>
      (await import('./config-commands.ts')).checkConfig(options, output),
    );
    const doctor = this.root.command('doctor').description('check everything that a node needs');
    this.#does(doctor, async (options, output) =>
      (await import('./doctor.ts')).doctor(options, output),
    );
  }

  #addTargets(): void {
    const discover = this.root
      .command('discover')
      .description('ask a portal which targets it has, with their portals and portal groups')
      .argument('<portal>', 'host, host:port or [IPv6]:port')
      .option('--target <name>', 'only this target')
      .option(
        '--map <from=to>',
        'where to connect instead of an address that the target tells; may be repeated',
        collect,
      );
    this.#does<DiscoverOptions>(discover, async (options, output, [portal]) =>
      (await import('./discover.ts')).discoverCommand(portal!, options, output),
    );
    const test = this.root
      .command('login-test')
      .description('log in to a target, tell step by step how it went, and log out')
      .argument('<target>', 'iSCSI name of the target')
      .argument('[portals...]', 'portals to try (default: those of the configuration)');
    this.#does(test, async (options, output, [target, ...portals]) =>
      (await import('./login-test.ts')).loginTest(target!, portals, options, output),
    );
  }

  #addManagement(): void {
    for (const [group, verb, text, name] of REPORTS) {
      const command = this.#group(group).command(verb).description(text);
      this.#does(command, async (options, output) => {
        const { loadCliConfig } = await import('./load-config.ts');
        const { config } = loadCliConfig(options);
        await (await import('./management.ts')).reports[name](config, output);
        return Exit.Ok;
      });
    }
    for (const [group, verb, text] of RECONNECTS) {
      const command = this.#group(group)
        .command(verb)
        .description(text)
        .option('--volume <name>', 'the sessions of this volume')
        .option('--path <number>', 'of this path of the volume alone')
        .option('--target <name>', 'the sessions with this target')
        .option('--all', 'all sessions');
      this.#does<ReconnectOptions>(command, async (options, output) =>
        (await import('./reconnect.ts')).reconnectCommand(options, output),
      );
    }
    for (const { group, verb, text, instead } of LATER) {
      const command = this.#group(group)
        .command(verb)
        .description(`${text} (not available yet)`)
        .allowExcessArguments()
        .allowUnknownOption();
      this.#does(command, async () => notYet(`${group} ${verb}`, instead));
    }
  }

  #group(name: string): Command {
    const known = this.root.commands.find((command) => command.name() === name);
    return known ?? this.root.command(name).description(GROUPS[name] ?? '');
  }

  /** Gives a command the options that all have, and what it does. */
  #does<O extends CommonOptions>(command: Command, action: Action<O>): void {
    command
      .option(
        '--config <file>',
        'configuration file (default: $ORION_CONFIG, then /etc/orion-iscsi/config.toml)',
      )
      .option('--set <key=value>', 'override a key of the configuration; may be repeated', collect)
      .option('--json', 'print JSON')
      .action(async () => {
        const options = command.opts<O>();
        const args = command.processedArgs.flat() as readonly string[];
        this.exitCode = await action(options, outputTo(this.#streams, options.json === true), args);
      });
  }
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
