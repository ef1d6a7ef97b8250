import { Type as T } from 'typebox';
import { VOLUME_PATHS_MAX } from '../core/limits.ts';
import { bool, int, size, str } from './schema-keys.ts';

const TARGET_PORTALS_MAX = 16;
/** As libs/iscsi has it. */
const CONNECTIONS_MAX = 8;
const HOUR_MS = 3_600_000;
const KIB = 1024;
/** RFC 7143 §13.12 to §13.14. */
const LENGTH_MIN = 512;
const LENGTH_MAX = 2 ** 24 - 1;

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
  { description: 'How we authenticate; docs/authentication.md.' },
);

const tls = T.Object(
  {
    ca: str({
      description:
        'File with the certificates (PEM) that the portals\' certificates are checked against; "system": those that Node.js trusts. Empty: no TLS.',
      default: '',
      format: 'caFile',
    }),
    server_name: str({
      description: 'The name that the certificate must be for. Empty: the host of the portal.',
      default: '',
      maxLength: 253,
    }),
    cert: str({
      description: 'File with our own certificate and its chain (PEM), where portals ask for one.',
      default: '',
      format: 'filePath',
    }),
    key: str({
      description: 'File with the key of our certificate (PEM): mode 0600 or 0400.',
      default: '',
      format: 'filePath',
    }),
    min_version: T.Union([T.Literal('TLSv1.2'), T.Literal('TLSv1.3')], {
      description: 'Older versions are refused.',
      default: 'TLSv1.2',
    }),
  },
  { description: 'TLS to portals that stand behind a TLS front such as stunnel; docs/tls.md.' },
);

export const target = T.Object(
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
    connections: int(1, CONNECTIONS_MAX, {
      description:
        'TCP connections of each session (MC/S). A target that allows fewer gets fewer. At most iscsi.session_max_connections. With error_recovery_level 0 the loss of one is the loss of the session. Leave it at 1 for LIO: Linux 6.1 may crash when a session of several connections is opened anew while they end.',
      default: 1,
    }),
    error_recovery_level: int(0, 2, {
      description:
        'ErrorRecoveryLevel to ask for. 1: what is damaged on the way is sent again, with digests. 2: commands of a lost connection go on over another one. A target may give less. Leave it below 2 for LIO: Linux 6.1 crashes when a command goes on elsewhere. At 1 the loss of a connection to LIO is the loss of the session, as at 0.',
      default: 0,
    }),
    initial_r2t: bool({
      description:
        'Let the target ask for every byte of a write before it is sent (InitialR2T). False asks to send the first burst at once, which is quicker; a target may insist.',
      default: false,
    }),
    immediate_data: bool({
      description:
        'Send the first data of a write together with its command, where the target takes it (ImmediateData).',
      default: true,
    }),
    max_recv_data_segment_length: size(LENGTH_MIN, LENGTH_MAX, {
      description: 'The longest data segment that the target may send us.',
      default: 256 * KIB,
    }),
    max_burst_length: size(LENGTH_MIN, LENGTH_MAX, {
      description: 'The most data that one R2T or one sequence of Data-In may be about.',
      default: 16 * KIB * KIB - 4 * KIB,
    }),
    first_burst_length: size(LENGTH_MIN, LENGTH_MAX, {
      description: 'The most data of a write that is sent without having been asked for.',
      default: 256 * KIB,
    }),
    max_outstanding_r2t: int(1, 65_535, {
      description: 'R2Ts of one write that the target may have open.',
      default: 8,
    }),
    task_reporting: T.Union(
      [T.Literal('fast-abort'), T.Literal('response-fence'), T.Literal('rfc3720')],
      {
        description:
          'The most that we offer for TaskReporting (RFC 7143 §13.23). "rfc3720" does not offer it, for targets that stumble over keys they do not know.',
        default: 'fast-abort',
      },
    ),
    protocol_level: int(1, 2, {
      description:
        'The iSCSIProtocolLevel that we offer (RFC 7144). 1 does not offer it, for targets that stumble over keys they do not know.',
      default: 2,
    }),
    login_timeout_ms: int(100, HOUR_MS, {
      description:
        'Longest time for one login. No login of a path may be longer than iscsi.session_timeout.',
      default: 10_000,
      unit: 'ms',
    }),
    profile: T.Union(
      [
        T.Literal('auto'),
        T.Literal('standard'),
        T.Literal('tgt'),
        T.Literal('iet'),
        T.Literal('istgt'),
        T.Literal('equallogic'),
        T.Literal('lio'),
      ],
      {
        description:
          'Which known oddities of a product to allow for. "auto" looks at what each logical unit says it is; "standard" allows for none.',
        default: 'auto',
      },
    ),
    auth,
    tls,
  },
  { description: 'One iSCSI target.' },
);

export const discovery = T.Object(
  {
    initiator_name: str({
      description: 'iSCSI name that discovery logs in with.',
      default: '',
      derived: 'as initiator_name of [[targets]]',
      format: 'iscsiName',
    }),
    auth,
    tls,
  },
  { description: 'How `orion-iscsi discover` logs in to portals; docs/discovery.md.' },
);

export const addressMapEntry = T.Object(
  {
    from: str({ description: 'What targets tell, as in "10.0.2.15:3260".', format: 'portal' }),
    to: str({ description: 'Where to connect instead.', format: 'portal' }),
  },
  {
    description:
      'Portals that are reached under another address than targets tell (NAT), one table each. Counts for redirections and for `orion-iscsi discover`.',
  },
);
