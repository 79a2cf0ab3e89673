// The few names of alpaka that CLUEstering's serial backend uses, each the obvious loop or copy: kernels run once over
// all elements. alpaka itself is not on a package index; CLUEstering is, and compiles against this.
#pragma once
#include <algorithm>
#include <array>
#include <cassert>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#include <numeric>
#include <functional>
#include <execution>
#include <cmath>
#include <iostream>
#define ALPAKA_FN_HOST
#define ALPAKA_FN_ACC
#define ALPAKA_FN_HOST_ACC
#define ALPAKA_FN_INLINE inline
namespace alpaka {
  template <std::size_t N> using DimInt = std::integral_constant<std::size_t, N>;
  template <typename TDim, typename T> struct Vec {
    std::array<T, TDim::value == 0 ? 1 : TDim::value> v{};
    constexpr Vec() { v.fill(T{1}); }
    template <typename... A> requires(sizeof...(A) > 0 && (std::convertible_to<A, T> && ...))
    constexpr Vec(A... a) : v{static_cast<T>(a)...} {}
    static constexpr Vec all(T x) { Vec r; r.v.fill(x); return r; }
    static constexpr Vec ones() { return all(T{1}); }
    static constexpr Vec zeros() { return all(T{0}); }
    constexpr T& operator[](std::size_t i) { return v[i]; }
    constexpr T const& operator[](std::size_t i) const { return v[i]; }
    constexpr T prod() const { T p{1}; for (auto x : v) p *= x; return p; }
  };
  struct PlatformCpu {};
  struct DevCpu { bool operator==(DevCpu const&) const = default; };
  struct QueueCpuBlocking { QueueCpuBlocking() = default; explicit QueueCpuBlocking(DevCpu const&) {} };
  using QueueCpuNonBlocking = QueueCpuBlocking;
  struct EventCpu { explicit EventCpu(DevCpu const&) {} };
  template <typename T> inline constexpr bool isQueue = std::is_same_v<std::remove_cvref_t<T>, QueueCpuBlocking>;
  template <typename T> inline constexpr bool isDevice = std::is_same_v<std::remove_cvref_t<T>, DevCpu>;
  template <typename T> inline constexpr bool isPlatform = std::is_same_v<std::remove_cvref_t<T>, PlatformCpu>;
  template <typename T> using Dev = DevCpu;
  template <typename T> using Platform = PlatformCpu;
  template <typename TDim, typename TIdx> struct WorkDivMembers {
    using V = Vec<TDim, TIdx>; V blocks, threads, elems;
    WorkDivMembers(V b, V t, V e) : blocks(b), threads(t), elems(e) {}
  };
  struct AccTag {};
  template <typename TDim, typename TIdx> struct AccCpuSerial : AccTag {
    using dim = TDim; WorkDivMembers<TDim, TIdx> const& wd;
    explicit AccCpuSerial(WorkDivMembers<TDim, TIdx> const& w) : wd(w) {}
  };
  namespace concepts { template <typename T> concept Acc = std::is_base_of_v<AccTag, std::remove_cvref_t<T>>; }
  namespace detail { template <typename T> struct DimOf { using type = typename T::dim; }; }
  template <typename T> using Dim = typename detail::DimOf<std::remove_cvref_t<T>>::type;
  template <typename TDev, typename T, typename TDim, typename TIdx> struct Buf {
    using dim = TDim; std::shared_ptr<T[]> p; Vec<TDim, TIdx> e;
    Buf(Vec<TDim, TIdx> ext) : p(static_cast<T*>(::operator new(sizeof(T) * std::max<std::size_t>(1, ext.prod()), std::align_val_t{64})), [](T* q) { ::operator delete(q, std::align_val_t{64}); }), e(ext) {}
    T* data() { return p.get(); } T* data() const { return p.get(); }
    T& operator*() const { return *p.get(); } T* operator->() const { return p.get(); }
    T& operator[](std::size_t i) const { return p.get()[i]; }
  };
  template <typename TDev, typename T, typename TDim, typename TIdx> struct ViewPlainPtr {
    using dim = TDim; T* p; Vec<TDim, TIdx> e;
    ViewPlainPtr(T* q, TDev const&, Vec<TDim, TIdx> ext) : p(q), e(ext) {}
    T* data() const { return p; } T& operator*() const { return *p; } T* operator->() const { return p; } T& operator[](std::size_t i) const { return p[i]; }
  };
  template <typename T, typename I, typename D> auto allocBuf(DevCpu const&, Vec<D, I> e) { return Buf<DevCpu, T, D, I>(e); }
  template <typename T, typename I, typename D> auto allocMappedBuf(DevCpu const&, PlatformCpu const&, Vec<D, I> e) { return Buf<DevCpu, T, D, I>(e); }
  template <typename T, typename I, typename D> auto allocAsyncBuf(QueueCpuBlocking const&, Vec<D, I> e) { return Buf<DevCpu, T, D, I>(e); }
  template <typename B> auto getExtents(B const& b) { return b.e; }
  template <typename D, typename S> void memcpy(QueueCpuBlocking const&, D&& d, S const& s) { std::memcpy(const_cast<void*>(static_cast<void const*>(d.data())), s.data(), sizeof(*s.data()) * std::min<std::size_t>(s.e.prod(), d.e.prod())); }
  template <typename D, typename S, typename E> void memcpy(QueueCpuBlocking const&, D&& d, S const& s, E const& e) { std::memcpy(const_cast<void*>(static_cast<void const*>(d.data())), s.data(), sizeof(*s.data()) * Vec<DimInt<1>, std::size_t>(e).prod()); }
  template <typename D> void memset(QueueCpuBlocking const&, D&& d, int v) { std::memset(static_cast<void*>(d.data()), v, sizeof(*d.data()) * d.e.prod()); }
  template <typename D, typename E> void memset(QueueCpuBlocking const&, D&& d, int v, E const& e) { std::size_t n; if constexpr (std::integral<E>) n = e; else n = e.prod(); std::memset(static_cast<void*>(d.data()), v, sizeof(*d.data()) * n); }
  inline DevCpu getDev(QueueCpuBlocking const&) { return {}; }
  template <typename B> requires requires(B b) { b.e; } DevCpu getDev(B const&) { return {}; }
  inline std::vector<DevCpu> getDevs(PlatformCpu const&) { return {DevCpu{}}; }
  inline DevCpu getDevByIdx(PlatformCpu const&, std::size_t) { return {}; }
  inline std::uint32_t getDevCount(PlatformCpu const&) { return 1; }
  inline std::string getName(DevCpu const&) { return "cpu"; }
  template <typename... T> void wait(T const&...) {}
  template <typename TQ, typename E> void enqueue(TQ&, E&) {}
  template <typename TAcc, typename W, typename K, typename... A> void exec(QueueCpuBlocking const&, W const& w, K const& k, A&&... a) { TAcc acc{w}; k(acc, a...); }
  struct Range {
    struct It { std::size_t i; std::size_t operator*() const { return i; } It& operator++() { ++i; return *this; } bool operator!=(It const& o) const { return i != o.i; } };
    std::size_t n; It begin() const { return {0}; } It end() const { return {n}; }
  };
  template <typename TAcc> std::size_t along(TAcc const& a, std::size_t d) { return std::size_t(a.wd.blocks[d]) * a.wd.threads[d] * a.wd.elems[d]; }
  template <typename TAcc> Range uniformElements(TAcc const& a) { return {along(a, 0)}; }
  template <typename TAcc> Range uniformElements(TAcc const&, std::size_t n) { return {n}; }
  template <std::size_t D, typename TAcc> Range uniformElementsAlong(TAcc const& a) { return {along(a, D)}; }
  template <std::size_t D, typename TAcc> Range uniformElementsAlong(TAcc const&, std::size_t n) { return {n}; }
  template <typename TAcc, typename T> T atomicAdd(TAcc const&, T* p, std::type_identity_t<T> v) { T o = *p; *p = o + v; return o; }
  template <typename TAcc, typename T> T atomicSub(TAcc const&, T* p, std::type_identity_t<T> v) { T o = *p; *p = o - v; return o; }
  struct Grid {}; struct Block {}; struct Thread {}; struct Blocks {}; struct Threads {}; struct Elems {};
  template <typename O, typename U, typename TAcc> auto getIdx(TAcc const&) { return decltype(std::declval<TAcc>().wd.blocks)::zeros(); }
  template <typename O, typename U, typename TAcc> auto getWorkDiv(TAcc const& a) { return a.wd.elems; }
}
