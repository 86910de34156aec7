/** Where the reader is, handed to every view, and how to go elsewhere. */

import type { Filter, Place, ViewName } from "../domain/address";

export interface Going {
  readonly place: Place;
  /** Rises whenever newer flow logs have been stored. */
  readonly tick: number;
  readonly choose: (choice: Readonly<Record<string, string>>) => void;
  readonly filter: (filter: Filter) => void;
  readonly go: (view: ViewName, choice?: Readonly<Record<string, string>>, filter?: Filter) => void;
}
