/** How many requests of clients a process works on now. Whoever takes requests counts them here. */
export interface Workload {
  inflight: number;
}
