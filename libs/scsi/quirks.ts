/** What a product does otherwise than it says, or than the standards say, and what we do about it. */
export interface Quirks {
  /** Name of the profile: what a configuration may ask for. */
  readonly profile: string;
  /** False: COMPARE AND WRITE is not offered, whatever the Block Limits page says. */
  readonly compareAndWrite: boolean;
  /** Most bytes of one READ or WRITE where the device states no limit; 0: our own limit. */
  readonly commandBytesMax: number;
  /**
   * After an abort or a LOGICAL UNIT RESET the device wants no more Data-Out for the tasks that are to end. False, as
   * RFC 7143 §4.2.3.3 has it: it waits for what it asked for with R2T.
   */
  readonly fastAbort: boolean;
  /**
   * The answer to the logout of a connection, over another one, comes when its commands have ended (RFC 7143 §7.6 a,
   * §11.15). False: a session is over with any of its connections at recovery level 1 too, as at level 0.
   */
  readonly logoutEndsCommands: boolean;
  /** A session of several connections is not opened anew before so much time has gone since it ended. */
  readonly reopenMs: number;
}

const standard: Quirks = {
  profile: 'standard',
  compareAndWrite: true,
  commandBytesMax: 0,
  fastAbort: false,
  logoutEndsCommands: true,
  reopenMs: 0,
};

export interface QuirkProfile {
  readonly name: string;
  /** Beginnings of the INQUIRY fields; an empty one fits everything. */
  readonly vendor: string;
  readonly product: string;
  readonly revision: string;
  readonly quirks: Partial<Omit<Quirks, 'profile'>>;
  /** Why, line by line. */
  readonly reasons: readonly string[];
}

const MIB = 1024 * 1024;

/** The first that fits counts. */
export const quirkProfiles: readonly QuirkProfile[] = [
  {
    name: 'tgt',
    vendor: 'IET',
    product: 'VIRTUAL-DISK',
    revision: '0001',
    quirks: { compareAndWrite: false },
    reasons: [
      'Its Block Limits page promises COMPARE AND WRITE of 128 blocks, but the command is answered with 5/20/00 (seen with 1.0.85).',
      'It reports 6/29/00 on every new nexus and after a LOGICAL UNIT RESET: the attach takes the first, and a reset of our own is known to the multipath device.',
      'A LOGICAL UNIT RESET is answered while it waits for write data, and the write is executed when they are there (seen with 1.0.85): `ResetMark` leaves such a write unsettled.',
      'No ALUA, and registrations of persistent reservations that end with the session: `registerAgain` restores them.',
    ],
  },
  {
    name: 'iet',
    vendor: 'IET',
    product: 'VIRTUAL-DISK',
    revision: '',
    quirks: { fastAbort: true },
    reasons: [
      'The iSCSI Enterprise Target, which names itself as tgt does, would rather get no data after a task management function (note in the configuration file of open-iscsi).',
    ],
  },
  {
    name: 'istgt',
    vendor: 'FreeBSD',
    product: 'iSCSI DISK',
    revision: '',
    quirks: { commandBytesMax: MIB },
    reasons: [
      'It states no longest transfer, but without a queue (QueueDepth 0) a command that is longer than its buffer of 2 MiB fails (from its source). 1 MiB is what later versions call optimal.',
    ],
  },
  {
    name: 'equallogic',
    vendor: 'EQLOGIC',
    product: '100E-00',
    revision: '',
    quirks: { fastAbort: false },
    reasons: [
      'It waits for the Data-Out of every R2T that it sent, also for tasks that were aborted (note in the configuration file of open-iscsi).',
    ],
  },
  {
    name: 'lio',
    vendor: 'LIO-ORG',
    product: '',
    revision: '',
    quirks: { logoutEndsCommands: false, reopenMs: 2_000 },
    reasons: [
      'It answers the logout of a connection over another one, and stops that connection only then: commands on it are still taken after the answer (seen with 6.1), and carried out (from its source). What the answer does not acknowledge and is sent again is ignored as a command that it has, and never answered.',
      'It takes the ExpStatSN of such a logout, which is about the connection that ends (§11.14.4), for that of the connection it comes over: reads there are forgotten, and their DataACK, which is then unknown, ends that connection (seen with 6.1).',
      'Below level 2 it ends all connections of a session when it notices the end of one before the logout comes (seen with 6.1, and from its source).',
      'A login that reinstates a session while several of its connections are just ending crashes the kernel (seen with 6.1: `iscsit_stop_session` goes on from a connection that is off the list). They were gone after 50 ms on a slow machine.',
      'Kernels before 5.11 tell no offset with a miscompare: the blocks are read and compared then, as with every device that leaves it out.',
      'The extended header of REPORT TARGET PORT GROUPS is not counted in its length, so the last port of the last group is cut off (seen with 6.1): groups are found by number before port.',
      'EXTENDED COPY takes one segment a command: its operating parameters say so, and are asked for.',
    ],
  },
];

/** Names that a configuration may give: "auto" looks at INQUIRY, "standard" means no quirks. */
export const quirkProfileNames: readonly string[] = [
  'auto',
  standard.profile,
  ...quirkProfiles.map(({ name }) => name),
];

/** The quirks of a product, by its INQUIRY data, or those of the profile that was asked for by name. */
export function quirksOf(
  inquiry: { readonly vendor: string; readonly product: string; readonly revision: string },
  profile = 'auto',
): Quirks {
  const found = quirkProfiles.find(({ name, vendor, product, revision }) =>
    profile === 'auto'
      ? inquiry.vendor.startsWith(vendor) &&
        inquiry.product.startsWith(product) &&
        inquiry.revision.startsWith(revision)
      : name === profile,
  );
  return found === undefined ? standard : { ...standard, ...found.quirks, profile: found.name };
}
