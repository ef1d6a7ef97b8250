/** Status class in the high byte, detail in the low one (RFC 7143 §11.13.5). */
export const LoginStatus = {
  InitiatorError: 0x0200,
  AuthenticationFailed: 0x0201,
  NotFound: 0x0203,
  UnsupportedVersion: 0x0205,
  TooManyConnections: 0x0206,
  MissingParameter: 0x0207,
  CannotIncludeInSession: 0x0208,
  SessionTypeNotSupported: 0x0209,
  SessionDoesNotExist: 0x020a,
  InvalidDuringLogin: 0x020b,
} as const;
export type LoginStatus = (typeof LoginStatus)[keyof typeof LoginStatus];
