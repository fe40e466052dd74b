// The compat entry: the class `Aether` of the sync engine 0.4.
export { Aether, Aether as default } from "./compat/aether.js";
export type {
  AetherOptions,
  AetherValue,
  AnyWatcher,
  KeyWatcher,
  LeaveWatcher,
  PresenceWatcher,
  StatusWatcher,
  SupersedeWatcher,
  Unsubscribe,
} from "./compat/aether.js";
