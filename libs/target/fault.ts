/** One armed fault. */
export interface Fault {
  readonly name: string;
  /** How often it has struck. */
  readonly hits: number;
  remove(): void;
}
