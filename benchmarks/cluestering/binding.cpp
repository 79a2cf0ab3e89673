// CLUEstering's serial backend as two Python functions that fill an array of cluster ids.
#include <pybind11/pybind11.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>
#include "CLUEstering/CLUEstering.hpp"
#include <optional>
#include <span>
#include <vector>
namespace py = pybind11;
template <std::size_t N>
void go(float dc, float rhoc, float dm, float sd, int pp, py::array_t<float> data, py::array_t<int> res, std::optional<std::vector<uint32_t>> batch, int n) {
  auto queue = clue::get_queue(0u);
  clue::Clusterer<N, float> algo(queue, dc, rhoc, dm, sd, pp);
  clue::PointsHost<N, float> h(queue, n, static_cast<float*>(data.request().ptr), static_cast<int*>(res.request().ptr));
  clue::PointsDevice<N, float> d(queue, n);
  clue::EuclideanMetric<N, float> metric;
  clue::FlatKernel<float> kernel(.5f);
  if (batch) { std::span<uint32_t> s(batch->data(), batch->size()); algo.make_clusters(queue, h, d, s, metric, kernel, 256); }
  else algo.make_clusters(queue, h, d, metric, kernel, 256);
}
PYBIND11_MODULE(clue_peer, m) { m.def("run2", &go<2>); m.def("run3", &go<3>); }
