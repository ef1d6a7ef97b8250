import { type Static, Type as T } from 'typebox';
import { bool, int, type KeyNotes, size, str } from './schema-keys.ts';
import { addressMapEntry, discovery, target } from './target-schema.ts';

// The configuration, once: types, defaults, ranges, checks, provenance and docs/config.md derive from this schema.

/** "n1", "worker-host-7": a token of the bus's subjects. */
const NODE_NAME = '^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$';
const VOLUME_NAME = '^[a-z0-9][a-z0-9._-]{0,62}$';

const TARGETS_MAX = 1024;
const VOLUMES_MAX = 1024;
const LISTENERS_MAX = 16;
const ADDRESS_MAP_MAX = 1024;
const WORKERS_MAX = 64;
const BUSY_POLL_US_MAX = 1_000;
const HOUR_MS = 3_600_000;
const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

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
    busy_poll_us: int(0, BUSY_POLL_US_MAX, {
      description:
        'With few requests under way, a process that has just received something looks for the next event for this long before it sleeps: a request that comes alone is answered sooner, at the price of processor time. Done where the machine has a core to spare beside the processes that would do it: first for workers, then for the gateway. 0: never.',
      default: 100,
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
      description: 'Connections that `connections` in [[targets]] may ask for.',
      default: 8,
    }),
    session_timeout: int(100, HOUR_MS, {
      description:
        'Longest time for a path to come up: login, identity, capacity. More than 5000 counts as 5000, so that failover stays quick.',
      default: 60_000,
      unit: 'ms',
    }),
    session_retry_count: int(0, 1000, {
      description:
        'Logins that are tried quickly one after the other when a session was lost, before the pauses between them grow.',
      default: 3,
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
        'Authenticate to targets with CHAP, where `auth` in [[targets]] says who we are. False: no login does, whatever `auth` says.',
      default: true,
    }),
    network_encryption: bool({
      description: 'Encrypt data between nodes. This version does not.',
      default: true,
      effect: 'later',
    }),
    target_authentication: bool({
      description:
        'Make targets authenticate to us (mutual CHAP), where `auth` in [[targets]] has a mutual_user. False: none has to, whatever `auth` says.',
      default: true,
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
  discovery,
  address_map: T.Array(addressMapEntry, { default: [], maxItems: ADDRESS_MAP_MAX }),
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
export type TargetTlsConfig = TargetConfig['tls'];
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
