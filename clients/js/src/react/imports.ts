// What this entry needs from outside, imported once, so that a bundle names it once.
export {
  createContext,
  createElement,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
  type Context,
  type FunctionComponentElement,
  type ProviderProps,
  type ReactNode,
} from "react";
export { bus, connect } from "../index.js";
