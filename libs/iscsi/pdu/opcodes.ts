/** The only list of iSCSI opcodes (RFC 7143 §11.2.1.2). Everything else derives from it. */
export const Opcode = {
  NopOut: 0x00,
  ScsiCommand: 0x01,
  TaskManagementRequest: 0x02,
  LoginRequest: 0x03,
  TextRequest: 0x04,
  DataOut: 0x05,
  LogoutRequest: 0x06,
  SnackRequest: 0x10,
  NopIn: 0x20,
  ScsiResponse: 0x21,
  TaskManagementResponse: 0x22,
  LoginResponse: 0x23,
  TextResponse: 0x24,
  DataIn: 0x25,
  LogoutResponse: 0x26,
  R2t: 0x31,
  AsyncMessage: 0x32,
  Reject: 0x3f,
} as const;
export type Opcode = (typeof Opcode)[keyof typeof Opcode];

/** Task attributes of a SCSI Command (§11.3.1). */
export const TaskAttribute = {
  Untagged: 0,
  Simple: 1,
  Ordered: 2,
  HeadOfQueue: 3,
  Aca: 4,
} as const;
export type TaskAttribute = (typeof TaskAttribute)[keyof typeof TaskAttribute];

/** Task management functions (§11.5.1, RFC 7144 §6.3). */
export const TaskFunction = {
  AbortTask: 1,
  AbortTaskSet: 2,
  ClearAca: 3,
  ClearTaskSet: 4,
  LogicalUnitReset: 5,
  TargetWarmReset: 6,
  TargetColdReset: 7,
  TaskReassign: 8,
  /** From here on protocol level 2 only (RFC 7144 §6.3). */
  QueryTask: 9,
  QueryTaskSet: 10,
  ItNexusReset: 11,
  QueryAsyncEvent: 12,
} as const;
export type TaskFunction = (typeof TaskFunction)[keyof typeof TaskFunction];

/** Answers to a task management request (§11.6.1). */
export const TmfResponse = {
  FunctionComplete: 0,
  TaskDoesNotExist: 1,
  LunDoesNotExist: 2,
  TaskStillAllegiant: 3,
  ReassignmentNotSupported: 4,
  FunctionNotSupported: 5,
  AuthorizationFailed: 6,
  /** Protocol level 2 only (RFC 7144 §6.4.2): a query found something. */
  FunctionSucceeded: 7,
  FunctionRejected: 255,
} as const;
export type TmfResponse = (typeof TmfResponse)[keyof typeof TmfResponse];

/** iSCSI service response of a SCSI Response (§11.4.3). 0x80 and above is the vendor's. */
export const ServiceResponse = {
  CommandCompleted: 0,
  TargetFailure: 1,
} as const;

/** Login stages (§11.12.3): CSG and NSG. 2 is not a stage. */
export const LoginStage = {
  Security: 0,
  Operational: 1,
  FullFeature: 3,
} as const;
export type LoginStage = (typeof LoginStage)[keyof typeof LoginStage];

/** Why a connection is logged out (§11.14.1). */
export const LogoutReason = {
  CloseSession: 0,
  CloseConnection: 1,
  RemoveForRecovery: 2,
} as const;
export type LogoutReason = (typeof LogoutReason)[keyof typeof LogoutReason];

/** Answers to a logout (§11.15.1). */
export const LogoutAnswer = {
  Closed: 0,
  CidNotFound: 1,
  RecoveryNotSupported: 2,
  CleanupFailed: 3,
} as const;
export type LogoutAnswer = (typeof LogoutAnswer)[keyof typeof LogoutAnswer];

/** SNACK types (§11.16.1). */
export const SnackType = {
  DataOrR2t: 0,
  Status: 1,
  DataAck: 2,
  RData: 3,
} as const;
export type SnackType = (typeof SnackType)[keyof typeof SnackType];

/** Asynchronous events (§11.9.1). */
export const AsyncEvent = {
  ScsiEvent: 0,
  LogoutRequested: 1,
  ConnectionDropped: 2,
  AllConnectionsDropped: 3,
  RenegotiationRequested: 4,
  TasksTerminated: 5,
  Vendor: 255,
} as const;
export type AsyncEvent = (typeof AsyncEvent)[keyof typeof AsyncEvent];

/** Reject reasons (§11.17.1). */
export const RejectReason = {
  /** Not to be used. */
  Reserved: 0x01,
  DataDigestError: 0x02,
  SnackReject: 0x03,
  ProtocolError: 0x04,
  CommandNotSupported: 0x05,
  ImmediateCommandReject: 0x06,
  TaskInProgress: 0x07,
  InvalidDataAck: 0x08,
  InvalidPduField: 0x09,
  LongOperationReject: 0x0a,
  /** Deprecated: to be taken for a negotiation that failed (§11.17.1, note 3). */
  NegotiationReset: 0x0b,
  WaitingForLogout: 0x0c,
} as const;
export type RejectReason = (typeof RejectReason)[keyof typeof RejectReason];

/** "LoginRequest", or "unknown (0x2f)": the name of a value in one of the tables above, for people. */
export function nameOf(table: Readonly<Record<string, number>>, value: number): string {
  for (const [name, entry] of Object.entries(table)) if (entry === value) return name;
  return `unknown (0x${value.toString(16).padStart(2, '0')})`;
}

/** A task tag that stands for none (§11.2.1.8, §11.7.4). */
export const RESERVED_TAG = 0xffffffff;
