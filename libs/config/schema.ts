import { type Static, Type as T } from 'typebox';
import { VOLUME_PATHS_MAX } from '../core/limits.ts';
import type { FormatName } from './formats.ts';

/**
 * The configuration, once: types, defaults, ranges, checks, provenance and docs/config.md derive from this schema.
 * Beside the keywords of JSON Schema a key has these notes.
 */
export interface KeyNotes {
  /** One or two sentences for the reader of docs/config.md. */
  readonly description: string;
  /** Left out: the key must be given. */
  readonly default?: unknown;
  /** How the default is made when it depends on other keys; `default` is then "". */
  readonly derived?: string;
  /** A check of formats.ts. */
  readonly format?: FormatName;
  /** In words beside the range: "ms", "s", "bytes". */
  readonly unit?: string;
  /** The key is accepted and checked, and changes nothing in this version. */
  readonly effect?: 'later';
}

/** "n1", "worker-host-7": a token of the bus's subjects. */
const NODE_NAME = '^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$';
const VOLUME_NAME = '^[a-z0-9][a-z0-9._-]{0,62}$';

const TARGETS_MAX = 1024;
const VOLUMES_MAX = 1024;
const LISTENERS_MAX = 16;
const TARGET_PORTALS_MAX = 16;
const WORKERS_MAX = 64;
const HOUR_MS = 3_600_000;
const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

const str = (notes: KeyNotes & { pattern?: string; maxLength?: number }) => T.String({ ...notes });
const int = (minimum: number, maximum: number, notes: KeyNotes) =>
  T.Integer({ minimum, maximum, ...notes });
const bool = (notes: KeyNotes) => T.Boolean({ ...notes });
const size = (minimum: number, maximum: number, notes: KeyNotes) =>
  T.Integer({ minimum, maximum, format: 'bytes', unit: 'bytes', ...notes });

const node = T.Object(
  {
    name: str({
      description: 'Name of this node, unique in the cluster. Process ids begin with it.',
      default: '',
      derived: 'the first label of the host name',
      pattern: NODE_NAME,
    }),
    state_dir: str({
      description:
        'Directory for sockets, locks and the data of the bus. It is made with mode 0700 and must belong to the user that runs the node.',
      default: '',
      derived: '/var/tmp/orion-<node.name>',
      format: 'directory',
    }),
    cluster: str({
      description:
        'Name of the cluster. Nodes that share a bus and a cluster name work together; others do not see each other.',
      default: 'orion',
      pattern: NODE_NAME,
    }),
    labels: T.Record(T.String(), T.String({ maxLength: 253 }), {
      description: 'Free labels of the node, as in `labels = { zone = "a" }`.',
      default: {},
      effect: 'later',
    }),
  },
  { description: 'This machine.' },
);

const bus = T.Object(
  {
    url: str({
      description:
        'NATS servers with JetStream. Empty: `up` starts the nats-server that is on PATH and looks after it.',
      default: '',
      format: 'busUrl',
    }),
    embedded: bool({
      description:
        'Run all roles in one process with the in-process bus: no nats-server, no other node. The same as `up --embedded`.',
      default: false,
    }),
  },
  { description: 'The bus that carries control messages. Block data never goes over it.' },
);

const workers = T.Object(
  {
    count: int(1, WORKERS_MAX, {
      description:
        'Worker processes of this node. Two are the least that survive the death of one.',
      default: 2,
    }),
    link_listen: T.Array(T.String({ format: 'listen' }), {
      description:
        "Where a worker takes the data streams of gateways. `{id}` stands for the worker's id; a TCP port is raised by the worker's number. Empty: a unix socket in state_dir.",
      default: [],
      maxItems: LISTENERS_MAX,
    }),
    link_advertise: str({
      description:
        'The address that gateways are told, where it differs from the first of link_listen ("host:port"; the port is raised as there).',
      default: '',
      format: 'tcpListen',
    }),
  },
  { description: 'The processes that hold iSCSI sessions.' },
);

const gateway = T.Object(
  {
    nbd_listen: T.Array(T.String({ format: 'listen' }), {
      description: 'Where NBD clients connect. Each volume is an export with its name.',
      default: ['127.0.0.1:10809'],
      maxItems: LISTENERS_MAX,
    }),
    http_listen: str({
      description: 'Where the HTTP block API answers, with /livez, /readyz and /metrics.',
      default: '127.0.0.1:8080',
      format: 'listen',
    }),
    insecure: bool({
      description:
        'Let http_listen be an address that other machines reach. There is no authentication in this version: whoever reaches it can read and write every volume.',
      default: false,
    }),
    admin_listen: str({
      description:
        'A listener of its own for /livez, /readyz and /metrics. Until then http_listen answers them.',
      default: '',
      format: 'tcpListen',
      effect: 'later',
    }),
  },
  { description: 'The front doors.' },
);

const digest = (what: string) =>
  T.Union([T.Literal('none'), T.Literal('crc32c'), T.Literal('prefer-crc32c')], {
    description: `${what} "crc32c" insists on it: the login fails where the target does not take it. "prefer-crc32c" goes without it there.`,
    default: 'none',
  });

const secretKeys = (whose: string) => ({
  file: str({
    description: `File with the secret of ${whose}: mode 0600 or 0400, owned by the user that runs the workers or by root. It is read at every login.`,
    default: '',
    format: 'filePath',
  }),
  env: str({
    description: `Environment variable with the secret of ${whose}, in place of a file.`,
    default: '',
    format: 'envName',
  }),
});
const ourSecret = secretKeys('user');
const theirSecret = secretKeys('mutual_user');

const auth = T.Object(
  {
    user: str({
      description: 'Name that we log in with by CHAP. Empty: no authentication.',
      default: '',
      format: 'chapName',
    }),
    secret_file: ourSecret.file,
    secret_env: ourSecret.env,
    mutual_user: str({
      description:
        'Name that the target has to prove itself as (mutual CHAP). Empty: it has to prove nothing.',
      default: '',
      format: 'chapName',
    }),
    mutual_secret_file: theirSecret.file,
    mutual_secret_env: theirSecret.env,
    algorithms: T.Array(
      T.Union([T.Literal('md5'), T.Literal('sha1'), T.Literal('sha256'), T.Literal('sha3-256')]),
      {
        description:
          'What is offered, the preferred one first. md5 has to be in the list. tgt means SHA-1 where others mean sha256: keep md5 first for it.',
        default: ['md5', 'sha3-256', 'sha256', 'sha1'],
        minItems: 1,
        maxItems: 4,
      },
    ),
    allow_weak_secrets: bool({
      description: 'Take secrets below 12 bytes (96 bits), for connections that IPsec protects.',
      default: false,
    }),
  },
  { description: 'How we authenticate to the target; docs/authentication.md.' },
);

const target = T.Object(
  {
    name: str({ description: 'iSCSI name of the target.', format: 'iscsiName' }),
    portals: T.Array(T.String({ format: 'portal' }), {
      description: `Portals of the target. A volume has one path to each, the first ${VOLUME_PATHS_MAX} at most.`,
      minItems: 1,
      maxItems: TARGET_PORTALS_MAX,
    }),
    initiator_name: str({
      description: 'iSCSI name that we log in with.',
      default: '',
      derived:
        'iqn.2026-11.io.orion-iscsi:<node.cluster>, and without bus.url a hash of host name and state_dir behind it',
      format: 'iscsiName',
    }),
    header_digest: digest(
      'A checksum over the header of every PDU, which finds what TCP lets through.',
    ),
    data_digest: digest(
      'A checksum over the data of every PDU, which finds what TCP lets through. It costs processor time.',
    ),
    auth,
  },
  { description: 'One iSCSI target.' },
);

const volume = T.Object(
  {
    name: str({
      description: 'Name of the volume: its NBD export and its place in the HTTP API.',
      pattern: VOLUME_NAME,
    }),
    target: str({ description: 'Name of one of the targets above.', format: 'iscsiName' }),
    lun: T.Union([T.Integer(), T.String()], {
      description: 'Logical unit of the target.',
      format: 'lun',
    }),
    policy: T.Union([T.Literal('round-robin'), T.Literal('queue-length'), T.Literal('latency')], {
      description: 'How a path is chosen for each I/O.',
      default: 'latency',
    }),
    read_only: bool({ description: 'Refuse writes.', default: false }),
    description: str({ description: 'Shown to clients.', default: '', maxLength: 4096 }),
    no_path_retry_ms: int(0, 24 * HOUR_MS, {
      description:
        'How long I/O waits for a path when there is none, before it fails. 0: not at all.',
      default: 30_000,
      unit: 'ms',
    }),
    no_path_queue_bytes: size(0, 16 * GIB, {
      description:
        'Bytes of requests that may wait for a path. Beyond it requests fail at once; each NBD connection has 64 MiB in flight at the most.',
      default: 256 * MIB,
    }),
    fence: T.Union([T.Literal('auto'), T.Literal('none')], {
      description:
        'How a write of unknown outcome is made harmless before it is repeated. `none` risks data and needs allow_unsafe.',
      default: 'auto',
    }),
    allow_lun_reset: bool({
      description:
        'Fence with LOGICAL UNIT RESET, which also ends commands of other initiators on the same unit.',
      default: true,
    }),
    allow_unsafe: bool({
      description: 'Accept settings of this volume that can lose acknowledged writes.',
      default: false,
    }),
  },
  { description: 'One volume: a logical unit that clients see.' },
);

const telemetry = T.Object(
  {
    log_level: T.Union(
      ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'].map((l) => T.Literal(l)),
      { description: 'The least that is logged (to stderr).', default: 'info' },
    ),
    log_pretty: T.Union([T.Literal('auto'), T.Literal('always'), T.Literal('never')], {
      description: 'Logs for people instead of JSON lines; `auto`: when stderr is a terminal.',
      default: 'auto',
    }),
    otlp_endpoint: str({
      description:
        'Base URL of an OpenTelemetry collector, such as http://127.0.0.1:4318. Empty: no traces.',
      default: '',
      format: 'httpUrl',
    }),
    sample_ratio: T.Number({
      description: 'Part of the requests that is traced.',
      default: 0.01,
      minimum: 0,
      maximum: 1,
    }),
    prometheus: bool({
      description: 'Answer /metrics. This version always does.',
      default: true,
      effect: 'later',
    }),
  },
  { description: 'Logs, traces, metrics.' },
);

const iscsi = T.Object(
  {
    session_max_count: int(1, 4096, {
      description: 'Sessions that the volumes of this file may need together (one for each path).',
      default: 32,
    }),
    session_max_connections: int(1, 64, {
      description: 'Connections of one session.',
      default: 8,
      effect: 'later',
    }),
    session_timeout: int(100, HOUR_MS, {
      description:
        'Longest time for a path to come up: login, identity, capacity. More than 5000 counts as 5000, so that failover stays quick.',
      default: 60_000,
      unit: 'ms',
    }),
    session_retry_count: int(0, 1000, {
      description: 'Logins that are tried at once after a session was lost, before waits grow.',
      default: 3,
      effect: 'later',
    }),
    connection_max_count: int(1, 65_536, {
      description: 'Connections that the volumes of this file may need together.',
      default: 256,
    }),
    connection_pool_size: int(0, 4096, {
      description: 'Connections that are kept ready.',
      default: 32,
      effect: 'later',
    }),
    connection_timeout: int(100, HOUR_MS, {
      description: 'Longest time for one connection to be made and logged in.',
      default: 30_000,
      unit: 'ms',
    }),
    connection_retry_count: int(0, 1000, {
      description: 'Connections that are tried on one portal before the next portal.',
      default: 3,
      effect: 'later',
    }),
    target_max_count: int(1, TARGETS_MAX, {
      description: 'Targets that this file may have.',
      default: 64,
    }),
    target_multipathing: bool({
      description: 'Use every portal of a target; else the first alone.',
      default: true,
    }),
    target_failover_enabled: bool({
      description: 'Take another path when one is lost.',
      default: true,
      effect: 'later',
    }),
    target_health_check_interval: int(1, 3600, {
      description: 'An idle path is asked for a sign of life this long after its last answer.',
      default: 30,
      unit: 's',
    }),
    read_ahead_size: size(0, GIB, {
      description: 'Data that is read ahead of a sequential reader.',
      default: 2 * MIB,
      effect: 'later',
    }),
    write_back_cache: bool({
      description: 'Acknowledge writes from a cache. This version always writes through.',
      default: true,
      effect: 'later',
    }),
    write_back_cache_size: size(0, 64 * GIB, {
      description: 'Size of that cache.',
      default: 256 * MIB,
      effect: 'later',
    }),
    multipath_enabled: bool({
      description:
        'Give a volume more than one path. False is the same as target_multipathing = false.',
      default: true,
    }),
    compression_enabled: bool({
      description: 'Compress data between nodes.',
      default: true,
      effect: 'later',
    }),
    chap_authentication: bool({
      description:
        'Authenticate to targets with CHAP. This version does so where `auth` in [[targets]] says who we are, whatever this key says.',
      default: true,
      effect: 'later',
    }),
    network_encryption: bool({
      description: 'Encrypt data between nodes. This version does not.',
      default: true,
      effect: 'later',
    }),
    target_authentication: bool({
      description:
        'Make targets authenticate to us (mutual CHAP). This version does so where `auth` in [[targets]] has a mutual_user, whatever this key says.',
      default: true,
      effect: 'later',
    }),
  },
  { description: "The keys of the driver's specification, word for word." },
);

export const ConfigSchema = T.Object({
  node,
  bus,
  workers,
  gateway,
  targets: T.Array(target, { default: [], maxItems: TARGETS_MAX }),
  volumes: T.Array(volume, { default: [], maxItems: VOLUMES_MAX }),
  telemetry,
  iscsi,
});

export type DeepReadonly<V> = V extends object
  ? { readonly [K in keyof V]: DeepReadonly<V[K]> }
  : V;

/** The whole configuration, complete and frozen, with the names of the file. */
export type OrionConfig = DeepReadonly<Static<typeof ConfigSchema>>;
export type TargetConfig = OrionConfig['targets'][number];
export type TargetAuthConfig = TargetConfig['auth'];
export type VolumeConfig = OrionConfig['volumes'][number];

/** A node of the schema as the loader and the docs walk it. */
export interface SchemaNode extends Partial<KeyNotes> {
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean';
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly patternProperties?: Readonly<Record<string, SchemaNode>>;
  readonly items?: SchemaNode;
  readonly anyOf?: readonly SchemaNode[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
}

export const rootNode = ConfigSchema as unknown as SchemaNode;

/** The texts of a choice; null when the node is something else. */
export function choicesOf(schema: SchemaNode): readonly string[] | null {
  if (schema.anyOf === undefined || schema.format !== undefined) return null;
  return schema.anyOf.map((option) => String(option.const));
}
