// The masks of a segment network's objects, from its prototypes. The twin of yolo_distill/runtime/masks.py.
#pragma once

#include <array>

#include "yolo.hpp"

namespace yolo {

class Prototypes {
  public:
    // `data` is (count, tall, wide), and has to stay as long as this.
    Prototypes(const float* data, int count, int tall, int wide, const Transform& transform)
        : data(data), count(count), tall(tall), wide(wide) {
        const Transform lies(transform.height, transform.width, 4 * tall, 4 * wide);
        // Python enlarges prototypes just so far that the padding can be cut off at whole numbers, and then once more.
        const int padding = (4 * tall - lies.rows) | (4 * wide - lies.columns);
        const int factor = padding % 8 == 0 ? 1 : padding % 4 == 0 ? 2 : 4;
        const Transform inside(transform.height, transform.width, factor * tall, factor * wide);
        down = windows(tall, factor, inside.top, inside.rows, transform.height);
        across = windows(wide, factor, inside.left, inside.columns, transform.width);
    }

    // The mask of an object in pixels of the picture, whose own numbers are the weights; empty if no pixel shows it.
    Mask mask(const Detection& found) const {
        // A pixel is inside if its number is: the first at or behind the left side, the last before the right one.
        const int left = int(std::ceil(found.x1)), right = std::min(int(std::ceil(found.x2)), int(across.size()));
        const int top = int(std::ceil(found.y1)), bottom = std::min(int(std::ceil(found.y2)), int(down.size()));
        if (right <= left || bottom <= top) return {};
        Mask mask{top, left, bottom - top, right - left, std::vector<std::uint8_t>((bottom - top) * (right - left))};
        const int first = down[top].first, last = std::min(down[bottom - 1].first + 3, tall);
        std::vector<float> sum((last - first) * wide + 2), between((last - first + 2) * mask.width);
        for (int proto = 0; proto < count; proto++) {
            const float* from = data + (std::size_t(proto) * tall + first) * wide;
            for (int i = 0; i < (last - first) * wide; i++) sum[i] += found.own[proto] * from[i];
        }
        if (!std::all_of(sum.begin(), sum.end(), [](float number) { return std::isfinite(number); })) {
            throw std::runtime_error("nan or infinity in the network's masks");
        }
        for (int row = 0; row < last - first; row++) {
            for (int x = 0; x < mask.width; x++) {
                between[row * mask.width + x] = weigh(&sum[row * wide + across[left + x].first], 1, across[left + x]);
            }
        }
        for (int y = 0; y < mask.height; y++) {
            const float* from = &between[(down[top + y].first - first) * mask.width];
            for (int x = 0; x < mask.width; x++) {
                mask.bits[y * mask.width + x] = weigh(from + x, mask.width, down[top + y]) > 0;
            }
        }
        return std::count(mask.bits.begin(), mask.bits.end(), 1) ? mask : Mask();
    }

  private:
    // For a row or column of the picture: the first of the prototypes' that counts, and the weights of it and the next.
    struct Window {
        int first;
        std::array<float, 3> weights;
    };
    struct Pair {
        int before, behind;
        double share;  // of the one behind
    };

    const float* data;
    int count, tall, wide;
    std::vector<Window> down, across;

    static float weigh(const float* numbers, int step, const Window& window) {
        const auto& [one, two, three] = window.weights;
        return one * numbers[0] + two * numbers[step] + three * numbers[2 * step];
    }

    // Between which two of so many given places a new one lies: bilinear, the middles of pixels on each other.
    static Pair pair(int given, int length, int i) {
        const double place = std::max((i + 0.5) * (double(given) / length) - 0.5, 0.0);
        return {int(place), std::min(int(place) + 1, given - 1), place - int(place)};
    }

    static std::vector<Window> windows(int protos, int factor, int start, int inside, int picture) {
        std::vector<Window> windows(picture);
        for (int i = 0; i < picture; i++) {
            const Pair fine = pair(inside, picture, i);
            const Pair ends[] = {pair(protos, factor * protos, start + fine.before),
                                 pair(protos, factor * protos, start + fine.behind)};
            windows[i] = {ends[0].before, {}};
            for (const Pair& end : ends) {
                const double weight = &end == ends ? 1 - fine.share : fine.share;
                windows[i].weights[end.before - ends[0].before] += float(weight * (1 - end.share));
                windows[i].weights[end.behind - ends[0].before] += float(weight * end.share);
            }
        }
        return windows;
    }
};

}  // namespace yolo
