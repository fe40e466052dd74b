"use client";
// The React entry: a provider and hooks. React 18 and later.
export { FieldProvider, useField, type FieldProviderProps } from "./scope.js";
export { useValue, type SetValue, type ValueInfo } from "./value.js";
export {
  useCounter,
  useEntries,
  useMembers,
  useOthers,
  usePending,
  usePresence,
  useRefused,
  useStatus,
  useSuperseded,
  type Entries,
  type SetMembers,
} from "./hooks.js";
export { BusProvider, useBus, useWaves, type BusProviderProps, type Waves, type WavesOptions } from "./waves.js";
